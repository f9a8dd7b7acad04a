"""Tables of an evaluation: every number in its place."""

import csv
import io
import math

import pytest

from tenet.evaluation.scores import SCORES
from tenet.evaluation.statistics import Statistics
from tenet.evaluation.tables import cell, images_csv, objects_csv, scores_csv, text_table

from .made import measured, record, row


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(
    ("score", "numbers", "text"),
    [
        ("sphericity", (9, 0.91, 0.3, 0.07), "0.910 ± 0.070"),
        ("volume_error", (9, 0.125, 0.5, 0.02), "+12.5% ± 2.0%"),
        ("volume_error", (9, -0.125, 0.5, 0.02), "-12.5% ± 2.0%"),
        ("z_xy_ratio", (1, 1.5, math.nan, math.nan), "1.50"),
        ("iou", (0, math.nan, math.nan, math.nan), "-"),
    ],
)
def test_a_cell_is_mean_and_confidence_interval(score, numbers, text):
    assert cell(score, Statistics(*numbers)) == text


def test_every_score_has_a_heading_of_its_own():
    headings = [score.heading for score in SCORES.values()]
    assert len(set(headings)) == len(headings)


def test_the_text_table():
    rows = [
        row(iou=(3, 0.4, 0.2, 0.1), mse=(3, 0.01, 0.002, 0.001)),
        row(iou=(3, 0.5, 0.2, 0.1), mse=(3, 0.01, 0.002, 0.001), best=True, threshold=0.35),
    ]
    head, first, second = text_table(rows).splitlines()
    assert head.split() == ["method", "threshold", "n", "IoU", "MSE"]
    assert first.split("  ")[0] == "tenet"
    assert "0.400 ± 0.100" in first
    assert "(best)" not in first
    assert "0.35 (best)  3  0.500 ± 0.100" in second


def test_scores_as_csv():
    given = row(iou=(3, 0.4, 0.2, 0.1)).summary
    found = read(scores_csv({"tenet": {0.3: given, 0.5: given}}, {"tenet": 0.5}))
    assert [(line["threshold"], line["best"]) for line in found] == [("0.3", "0"), ("0.5", "1")]
    numbers = {key: float(found[0][f"iou_{key}"]) for key in ("number", "mean", "sd", "ci95")}
    assert numbers == {"number": 3, "mean": 0.4, "sd": 0.2, "ci95": 0.1}


def test_images_and_objects_as_csv():
    objects = [measured(1, 0.25), measured(2, 0.75)]
    records = {"tenet": {0.3: [record(0.3, iou=0.1)], 0.5: [record(0.5, objects, iou=0.2)]}}
    rows = [row(iou=(1, 0.2, math.nan, math.nan))]
    (image,) = read(images_csv(records, rows))
    assert image == {"image": "cell", "method": "tenet", "threshold": "0.5", "iou": "0.2"}
    lines = read(objects_csv(records, rows))
    assert [line["mean_brightness"] for line in lines] == ["0.25", "0.75"]
    named = {
        "label": "1",
        "centroid_z_um": "1",
        "centroid_y_um": "2",
        "centroid_x_um": "3",
        "volume_um3": "4",
        "surface_um2": "5",
        "sphericity": "0.6",
        "z_xy_ratio": "0.7",
        "touches_border": "False",
    }
    assert lines[0].items() >= named.items()
    assert list(lines[0])[-1] == "touches_border"
    assert objects_csv(records, [row(threshold=0.3, iou=(1, 0.1, 0, 0))]) == ""
