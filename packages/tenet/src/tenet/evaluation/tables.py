"""The tables of an evaluation: as text for a terminal, and as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tenet.evaluation.scores import SCORES, Record, Row, Summary
from tenet.evaluation.statistics import Statistics

# Method to threshold to the records of every image.
Records = Mapping[str, Mapping[float, Sequence[Record]]]


def cell(score: str, found: Statistics) -> str:
    """Return ``mean ± half the 95 % confidence interval`` as text; ``-`` where there is no mean."""
    known = SCORES[score]
    if math.isnan(found.mean):
        return "-"
    mean = known.mean_text(found.mean)
    return mean if math.isnan(found.ci95) else f"{mean} ± {known.text(found.ci95)}"


def text_table(rows: Sequence[Row]) -> str:
    """Return the table of an evaluation for a terminal."""
    scores = list(rows[0].summary)
    lines = [["method", "threshold", "n", *(SCORES[score].heading for score in scores)]]
    for row in rows:
        mark = " (best)" if row.is_best else ""
        cells = [cell(score, row.summary[score]) for score in scores]
        number = str(row.summary[scores[0]].number)
        lines.append([row.method, f"{row.threshold:g}{mark}", number, *cells])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    padded = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([*padded, *notes(rows)])


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what is to be known of rows, a line each."""
    return [f"{row.method}: {row.note}" for row in rows if row.note]


def scores_csv(
    summaries: Mapping[str, Mapping[float, Summary]], best: Mapping[str, float | None]
) -> str:
    """Return a line for each method and threshold: the statistics of every score."""
    lines = []
    for method, by_threshold in summaries.items():
        for threshold, summary in by_threshold.items():
            line: dict[str, Any] = {"method": method, "threshold": threshold}
            line["best"] = int(best[method] == threshold)
            for score, found in summary.items():
                line |= {f"{score}_{part}": value for part, value in asdict(found).items()}
            lines.append(line)
    return _csv(lines)


def images_csv(records: Records, rows: Sequence[Row]) -> str:
    """Return a line for each image, at the rows' methods and thresholds."""
    return _csv([_head(record) | dict(record.values) for record in _reported(records, rows)])


def objects_csv(records: Records, rows: Sequence[Row]) -> str:
    """Return a line for each object, at the rows' methods and thresholds; empty without any."""
    lines = []
    for record in _reported(records, rows):
        for one in record.objects:
            z, y, x = one.centroid_um
            lines.append(
                _head(record)
                | {
                    "label": one.label,
                    "centroid_z_um": z,
                    "centroid_y_um": y,
                    "centroid_x_um": x,
                    "volume_um3": one.volume_um3,
                    "surface_um2": one.surface_um2,
                    "sphericity": one.sphericity,
                    "z_xy_ratio": one.z_xy_ratio,
                    "mean_brightness": one.mean_intensity,
                    "touches_border": one.touches_border,
                }
            )
    return _csv(lines)


def _reported(records: Records, rows: Sequence[Row]) -> list[Record]:
    places = dict.fromkeys((row.method, row.threshold) for row in rows)
    return [record for method, threshold in places for record in records[method][threshold]]


def _head(record: Record) -> dict[str, Any]:
    return {"image": record.name, "method": record.method, "threshold": record.threshold}


def _csv(lines: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    if lines:
        writer = csv.DictWriter(buffer, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        for line in lines:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in line.items()})
    return buffer.getvalue()
