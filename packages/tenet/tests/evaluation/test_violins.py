"""Distributions of scores, drawn method beside method."""

import numpy as np
import pytest

from tenet.evaluation.statistics import statistics_of
from tenet.evaluation.violins import draw_violins

NUMBERS = {
    "volume_um3": {"tenet ≥ 0.5": [3.0, 4.0, 4.5, 5.0, 3.5], "CARE ≥ 0.2": [6.0, 7.0]},
    "sphericity": {"tenet ≥ 0.5": [0.9] * 5, "CARE ≥ 0.2": []},
}


@pytest.fixture
def panels():
    return draw_violins(NUMBERS, {"sphericity": 1.0}).axes


def test_every_score_has_a_panel_and_every_method_a_place(panels):
    assert [panel.get_title() for panel in panels] == ["volume (µm³)", "sphericity"]
    for panel in panels:
        assert [text.get_text() for text in panel.get_xticklabels()] == list(NUMBERS["sphericity"])


def test_all_numbers_are_shown_where_they_are(panels):
    for panel, by_method in zip(panels, NUMBERS.values(), strict=True):
        points = [line for line in panel.lines if line.get_marker() == "."]
        assert [list(line.get_ydata()) for line in points] == list(by_method.values())
        for place, line in enumerate(points):
            assert np.abs(line.get_xdata() - place).max(initial=0) < 0.3


def test_few_or_equal_numbers_are_no_distribution(panels):
    filled = [
        sum(type(one).__name__ in ("PolyCollection", "FillBetweenPolyCollection") for one in kept)
        for kept in (panel.collections for panel in panels)
    ]
    assert filled == [1, 0]


def test_the_mean_has_its_confidence_interval(panels):
    volumes = NUMBERS["volume_um3"]["tenet ≥ 0.5"]
    mark, caps, _ = panels[0].containers[0].lines
    found = statistics_of(volumes)
    assert mark.get_ydata()[0] == pytest.approx(found.mean)
    ends = [float(cap.get_ydata()[0]) for cap in caps]
    assert ends == pytest.approx([found.mean - found.ci95, found.mean + found.ci95])
    assert len(panels[1].containers) == 1  # nothing of a method without a number


def test_what_would_be_right_is_a_line(panels):
    lines = [
        [line.get_ydata()[0] for line in p.lines if line.get_linestyle() == ":"] for p in panels
    ]
    assert lines == [[], [1.0]]
