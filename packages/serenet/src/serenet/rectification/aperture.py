"""The optics as recorded views tell them: the aperture's image behind the microlenses.

The views that receive light fill the image of the objective's aperture behind a lens. Its radius,
in views, is ``NA / lambda / view_step``: it tells the focal length of the microlenses if the
aperture is known, and the other way round, and its centre is where the axial view should be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection
from scopekit.outputs import require_new
from scopekit.settings import write_yaml
from serenet.views.files import open_views

_FREQUENCIES = 181
_STARTS = (0.8, 0.9, 1.0, 1.12, 1.25)
# Of the variance among the views: what the best aperture may leave unexplained.
_LARGEST_MISFIT = 0.4
_LEAST_OUTSIDE = 0.05


@dataclass(frozen=True)
class Aperture:
    """The image of the objective's aperture, found in the brightness of the views.

    Attributes
    ----------
    microscope
        With the focal length of the microlenses that fits.
    aperture_instead
        The numerical aperture that fits as well, if the focal length is as it was.
    centre
        (row, column) of the aperture's middle from the central view, views.
    misfit_before, misfit
        Share of the views' variance that the optics as given, and those found, leave.
    """

    microscope: LightFieldMicroscope
    aperture_instead: float
    centre: tuple[float, float]
    misfit_before: float
    misfit: float


def light_by_view(
    microscope: LightFieldMicroscope, scale: float = 1.0, centre: Sequence[float] = (0.0, 0.0)
) -> NDArray[np.float64]:
    """Return how much light of a uniform object every view receives, (n_num, n_num), at most 1.

    View (u, v) takes in the pupil's frequencies with the weight ``sinc^2((f_y - u df) W)
    sinc^2((f_x - v df) W)``, W being a lens on the object's side.

    Parameters
    ----------
    microscope
        The microscope.
    scale
        Factor on the focal length of the microlenses.
    centre
        (row, column) of the aperture's middle from the central view, views.
    """
    lens_um = microscope.microlens_pitch_um / microscope.magnification
    limit = microscope.numerical_aperture / microscope.wavelength_um
    frequency = np.linspace(-limit, limit, _FREQUENCIES)
    pupil = (np.hypot.outer(frequency, frequency) <= limit).astype(np.float64)
    order = np.arange(microscope.n_num) - microscope.n_num // 2
    step = microscope.view_step / scale
    rows, columns = (
        np.sinc((frequency - (order[:, None] - middle) * step) * lens_um) ** 2 for middle in centre
    )
    light = rows @ pupil @ columns.T
    return np.asarray(light / light.max())


def fit_aperture(brightness: NDArray[np.floating], microscope: LightFieldMicroscope) -> Aperture:
    """Find the focal length and the centre of the views by the brightness of all views.

    Parameters
    ----------
    brightness
        (n_num, n_num), mean of every view; a background is fitted.
    microscope
        The optics as they are supposed to be.

    Raises
    ------
    UserError
        If the views show no disc of light.
    """
    spread = brightness - brightness.mean()

    def misfit(guess: NDArray[np.float64]) -> float:
        light = light_by_view(microscope, float(guess[0]), guess[1:].tolist())
        terms = np.stack([light.ravel(), np.ones(light.size)], axis=1)
        _, rest, *_ = np.linalg.lstsq(terms, brightness.ravel(), rcond=None)
        return float(rest[0] / max((spread**2).sum(), 1e-30)) if len(rest) else 1.0

    # Steps of 5 % and 0.3 views around a start.
    corner = np.array([[-0.05, -0.3, -0.3], [0.05, 0, 0], [0, 0.3, 0], [0, 0, 0.3]])
    tries = [
        minimize(
            misfit,
            np.array([scale, 0.0, 0.0]),
            method="Nelder-Mead",
            bounds=[(0.5, 2.0), (-3, 3), (-3, 3)],
            options={
                "xatol": 1e-3,
                "fatol": 1e-6,
                "initial_simplex": scale * corner + np.array([scale, 0, 0]),
            },
        )
        for scale in _STARTS
    ]
    best = min(tries, key=lambda found: float(found.fun))
    scale, row, column = (float(value) for value in best.x)
    outside = light_by_view(microscope, scale, (row, column)) < 0.5
    if best.fun > _LARGEST_MISFIT or outside.mean() < _LEAST_OUTSIDE:
        raise UserError(
            "the views show no edge of the aperture: its image is larger than a lens, or the light "
            "field too dark or too sparse; record a brighter one, or a homogeneous one"
        )
    focal_length = round(microscope.microlens_focal_length_um * scale, 1)
    corrected = microscope.model_dump(exclude={"views"}) | {
        "microlens_focal_length_um": focal_length
    }
    return Aperture(
        microscope=LightFieldMicroscope.model_validate(corrected),
        aperture_instead=round(microscope.numerical_aperture * scale, 3),
        centre=(round(row, 2), round(column, 2)),
        misfit_before=misfit(np.array([1.0, 0.0, 0.0])),
        misfit=float(best.fun),
    )


def calibrate_files(
    views: Sequence[Path],
    microscope: LightFieldMicroscope,
    out: Path,
    *,
    selection: Selection = WHOLE_FILE,
    overwrite: bool = False,
) -> Aperture:
    """Fit the optics to view stacks, and write the corrected microscope as YAML.

    Parameters
    ----------
    views
        Files with all n_num^2 views; their brightness is added up.
    microscope
        The optics as they are supposed to be.
    out
        The YAML file to write.
    selection
        Which channel and position of every file that has several.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If a file is unfit or shows no aperture, or the result exists.
    """
    require_new(out, overwrite=overwrite, inputs=list(views))
    total = np.zeros((microscope.n_num, microscope.n_num))
    for path in views:
        stack, _ = open_views(path, microscope.with_all_views(), selection)
        for frame in range(stack.n_frames):
            total += stack.read(frame).mean((1, 2), dtype=np.float64).reshape(total.shape)
    try:
        found = fit_aperture(total, microscope)
    except UserError as failure:
        raise UserError(f"{views[0]}: {failure}") from failure
    write_yaml(out, found.microscope.model_dump(mode="json"), overwrite=overwrite)
    return found
