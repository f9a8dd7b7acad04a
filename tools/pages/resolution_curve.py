"""The curves of ``docs/my_microscope.md``: the finest lateral detail that views tell of each depth.

``PYTHONPATH=tools python -m pages.resolution_curve`` draws ``docs/resolution.png``, from the
function whose numbers ``serenet psf`` prints.
"""

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from optics import LightFieldMicroscope, lateral_band_limit, presets
from serenet.views.microscope import load_microscope

ROOT = Path(__file__).resolve().parents[2]
GUV = ROOT / "packages/serenet/src/serenet/samples/guv/guv.yaml"
STEPS = 61


def curve(microscope: LightFieldMicroscope) -> tuple[list[float], list[float]]:
    """Return depths over a microscope's range, um, and the finest period that its views tell, um.

    Parameters
    ----------
    microscope
        The microscope.
    """
    ends = microscope.depths_um[0], microscope.depths_um[-1]
    depths = [float(z) for z in np.linspace(*ends, STEPS)]
    return depths, [1 / limit for limit in lateral_band_limit(microscope, depths)]


def microscopes() -> dict[str, LightFieldMicroscope]:
    """Return the microscopes drawn, by their names."""
    scanned = presets["nnum13"]
    once = scanned.model_validate(scanned.model_dump() | {"scanning": 1})
    return {
        "nnum13 (63x / 1.4), 3 x 3 scan": scanned,
        "the same, not scanned": once,
        "guv (60x / 1.2), not scanned": load_microscope(str(GUV)),
    }


def draw(path: Path) -> None:
    """Draw the curves of all microscopes.

    Parameters
    ----------
    path
        The PNG to write.
    """
    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for name, microscope in microscopes().items():
        axes.plot(*curve(microscope), label=name)
    axes.set_xlabel("depth, µm from the focal plane")
    axes.set_ylabel("finest lateral period, µm")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    draw(ROOT / "docs/resolution.png")
