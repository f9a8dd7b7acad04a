"""The page of an evaluation."""

import math
import re

import pytest

from tenet.evaluation.kinds import Beads, Microglia, Simulation
from tenet.evaluation.report import report

from .made import row


def lines_of(page):
    """Return the table's lines, each its class and the text of its cells."""
    table = re.search(r"<table>(.*)</table>", page, re.DOTALL).group(1)
    found = []
    for style, line in re.findall(r"<tr( class=\w+)?>(.*?)</tr>", table):
        cells = re.findall(r"<t[dh]>(.*?)</t[dh]>", line)
        found.append((style.removeprefix(" class="), cells))
    return found


def test_a_line_tells_mean_confidence_and_standard_deviation():
    scores = {"volume_um3": (7, 4.1, 0.9, 0.3), "sphericity": (7, 0.95, 0.04, 0.01)}
    rows = [row(**scores), row(**scores, best=True, threshold=0.35)]
    head, given, best, ideal = lines_of(report(Beads(4.189), rows, {}, {}))
    assert head[1] == ["method", "threshold", "n", "volume (µm³)", "sphericity"]
    cells = [
        "4.100 ± 0.300<br><small>0.900</small>",
        "0.950 ± 0.010<br><small>0.040</small>",
    ]
    assert given == ("", ["tenet", "0.5", "7", *cells])
    assert best == ("best", ["tenet", "0.35 (best)", "7", *cells])
    assert ideal == ("ideal", ["ideal", "", "", "4.189", "1.000"])


def test_the_ideal_of_a_simulation():
    scores = dict.fromkeys(("iou", "volume_error", "mse"), (2, 0.5, 0.1, 0.2))
    *_, ideal = lines_of(report(Simulation(), [row(**scores)], {}, {}))
    assert ideal[1] == ["ideal", "", "", "1.000", "0.0%", ""]


@pytest.mark.parametrize("kind", [Beads(), Microglia()])
def test_without_a_truth_nothing_is_ideal(kind):
    page = report(kind, [row(reconstruction_mse=(1, 0.1, math.nan, math.nan))], {}, {})
    assert [style for style, _ in lines_of(page)] == ["", ""]
    assert "best threshold" not in page


def test_what_is_counted_and_noted_is_told():
    rows = [row(volume_um3=(7, 4.1, 0.9, 0.3))]
    page = report(Beads(1.0), rows, {"a & b": "<none>"}, {"A picture": b"png"})
    assert "below; n: beads. The best threshold is that of the mean volume nearest" in page
    assert "<dt>a &amp; b</dt><dd>&lt;none&gt;</dd>" in page
    assert '<h2>A picture</h2><img alt="A picture" src="data:image/png;base64,cG5n">' in page
    assert "n: images." in report(Microglia(), rows, {}, {})
