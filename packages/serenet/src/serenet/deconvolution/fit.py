"""How well a deconvolved volume explains the views: by view, by place, drawn, and what to do.

A misfit that goes with the views tells of the optics (focal length, aperture, centre of the
views), one that goes with places of the object, or of the field.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from optics import LightFieldMicroscope, poisson_deviance
from scopekit.outputs import whole_file
from serenet.deconvolution.subsets import ViewSubsets
from serenet.deconvolution.windows import Window

FIT = "fit"
"""Key of a fit in the record of a frame."""

# Outermost planes brighter than this many times the mean of the others collect foreign light.
_BRIGHT_PLANE = 2.0
# The map by place is kept in the settings; so many places a side are enough to look at.
_PLACES = 48


@dataclass
class Fit:
    """Measured and predicted views, and their misfit, gathered window by window.

    Attributes
    ----------
    measured, predicted
        (A, h, w), in counts; zeros until a window is added.
    """

    measured: Tensor
    predicted: Tensor

    @classmethod
    def of(cls, views: Tensor) -> "Fit":
        """Return the fit of views (A, h, w), of which nothing is predicted yet."""
        return cls(views.cpu(), torch.zeros_like(views, device="cpu"))

    def add(self, subsets: ViewSubsets, window: Window, estimate: Tensor) -> None:
        """Predict the views of a window from its estimate.

        Parameters
        ----------
        subsets
            The data of the window.
        window
            Where it lies.
        estimate
            (D, H, W), surround included; of a sieve its coefficients.
        """
        rows, columns = window.core_views
        for channels in subsets.groups:
            subset = subsets.subset(*channels)
            predicted = subset.operator.forward(estimate) + subset.background
            del subset  # before the next is made
            part = window.crop_views(predicted).clamp_(min=0).cpu()
            for channel, view in zip(channels, part, strict=True):
                self.predicted[channel, rows, columns] = view

    def record(self, gain: float) -> dict[str, Any]:
        """Return the deviance of all, of each view and of places, as plain values.

        Parameters
        ----------
        gain
            Factor by which the views are brighter than recorded.
        """
        pairs = zip(self.measured, self.predicted, strict=True)
        by_view = [poisson_deviance(m, p) / gain for m, p in pairs]
        safe = self.predicted.clamp(min=1e-6)
        quotient = (self.measured / safe).clamp(min=1e-30)
        terms = torch.xlogy(self.measured, quotient) - self.measured + self.predicted
        by_place = 2 * terms.mean(0)[None] / gain
        height, width = (min(n, _PLACES) for n in by_place.shape[-2:])
        places = F.adaptive_avg_pool2d(by_place, (height, width))[0]
        return {
            "deviance": round(sum(by_view) / len(by_view), 4),
            "by_view": [round(value, 4) for value in by_view],
            "by_place": [[round(float(value), 4) for value in row] for row in places],
        }


def draw_fit(microscope: LightFieldMicroscope, picture: Path, fit: dict[str, Any]) -> None:
    """Draw the deviance by view, over the aperture, and by place, over the field.

    Parameters
    ----------
    microscope
        The microscope, which tells where the views lie.
    picture
        The PNG to write; an existing one is replaced.
    fit
        From `Fit.record`.
    """
    side = microscope.n_num
    aperture: NDArray[np.float64] = np.full((side, side), np.nan)
    middle = side // 2
    for (row, column), value in zip(microscope.view_coordinates, fit["by_view"], strict=True):
        aperture[row + middle, column + middle] = value
    figure = Figure(figsize=(11, 5), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    maps = (aperture, "by view, over the aperture"), (np.array(fit["by_place"]), "over the field")
    for axes, (values, title) in zip(figure.subplots(1, 2), maps, strict=True):
        top = float(np.nanquantile(values, 0.99))
        shown = axes.imshow(values, cmap="magma", vmin=0, vmax=top, interpolation="nearest")
        axes.set_title(title)
        axes.set_axis_off()
        figure.colorbar(shown, ax=axes, shrink=0.8)
    figure.suptitle(
        f"misfit: deviance {fit['deviance']:.3g} (photon noise alone: about 1, in photons)"
    )
    with whole_file(picture, overwrite=True) as partial:
        figure.savefig(partial, format="png")


def advice_on_depths(
    brightness: NDArray[np.floating], microscope: LightFieldMicroscope
) -> str | None:
    """Say what to do if the outermost planes collect light, ``None`` if they do not.

    Parameters
    ----------
    brightness
        (D,), mean of every plane.
    microscope
        The microscope with the planes' depths.
    """
    if len(brightness) < 4:
        return None
    inner = float(brightness[1:-1].mean())
    found = [
        f"{microscope.depths_um[end]:g} um holds {brightness[end] / inner:.1f} times the light of "
        "the others"
        for end in (0, -1)
        if inner > 0 and brightness[end] > _BRIGHT_PLANE * inner
    ]
    if not found:
        return None
    return (
        f"warning: the outermost plane at {' and the one at '.join(found)}: there is light from "
        "beyond; let depths_um reach farther, by half as much again, or leave that plane out"
    )
