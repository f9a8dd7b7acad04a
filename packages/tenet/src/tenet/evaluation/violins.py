"""The distributions of scores, method beside method."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scopekit.preview import printable
from tenet.evaluation.scores import SCORES
from tenet.evaluation.statistics import statistics_of

_FEWEST = 5  # numbers that a violin is drawn of; fewer are points alone
_SPREAD = 0.12  # of the points, sideways


def draw_violins(
    numbers: Mapping[str, Mapping[str, Sequence[float]]], ideals: Mapping[str, float]
) -> Figure:
    """Draw every number of each method, its distribution, and its mean with the 95 % interval.

    Parameters
    ----------
    numbers
        Score to method to numbers, of the same methods for every score.
    ideals
        Score to the value that would be right, drawn as a line.
    """
    methods = list(next(iter(numbers.values())))
    width = max(0.75 * len(methods) + 0.9, 2.6)
    figure = Figure(figsize=(width * len(numbers), 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(numbers), squeeze=False)[0]
    for panel, (score, by_method) in zip(panels, numbers.items(), strict=True):
        for place, values in enumerate(by_method.values()):
            _draw_one(panel, place, np.asarray(values, np.float64))
        if score in ideals:
            panel.axhline(ideals[score], color="0.5", linestyle=":", linewidth=1)
        labels = [printable(method) for method in methods]
        panel.set_xticks(range(len(methods)), labels, rotation=30, ha="right", fontsize=8)
        panel.set(title=SCORES[score].heading, xlim=(-0.6, len(methods) - 0.4))
    return figure


def _draw_one(panel: Axes, place: int, values: np.ndarray) -> None:
    colour = f"C{place}"
    if len(values) >= _FEWEST and np.ptp(values) > 0:
        bodies: Any = panel.violinplot([values], [place], widths=0.8, showextrema=False)["bodies"]
        for body in bodies:
            body.set(facecolor=colour, edgecolor=colour, alpha=0.3)
    aside = np.random.default_rng(0).uniform(-_SPREAD, _SPREAD, len(values))
    panel.plot(place + aside, values, ".", color=colour, markersize=4, alpha=0.7)
    if len(values):
        found = statistics_of(list(values))
        half = np.nan_to_num(found.ci95)
        panel.errorbar(place, found.mean, half, fmt="_", color="black", capsize=4, markersize=10)
