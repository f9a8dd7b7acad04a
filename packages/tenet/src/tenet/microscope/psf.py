"""What ``tenet psf`` writes: the PSF that a configuration describes, and the neural one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from optics import section_to_kernel
from scopekit.images.files import write_volume
from scopekit.outputs import make_folder, require_new, whole_file
from scopekit.preview import printable
from tenet.config.files import Config
from tenet.microscope.model import ImagingModel

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Profiles:
    """A PSF's section (rows, radii) with its steps and widths, um."""

    section: Array
    axial_um: float
    lateral_um: float

    @property
    def focus(self) -> int:
        """The row of the maximum."""
        return int(self.section[:, 0].argmax())

    @property
    def lateral_fwhm_um(self) -> float | None:
        """Full width at half maximum across the axis, ``None`` if the section is too small."""
        profile = self.section[self.focus]
        half = _crossing(profile, profile[0] / 2)
        return None if half is None else 2 * half * self.lateral_um

    @property
    def axial_fwhm_um(self) -> float | None:
        """The same along the axis."""
        profile, focus = self.section[:, 0], self.focus
        half = profile[focus] / 2
        sides = [_crossing(profile[focus:], half), _crossing(profile[focus::-1], half)]
        if None in sides:
            return None
        return sum(side for side in sides if side is not None) * self.axial_um


def _crossing(profile: Array, level: float) -> float | None:
    """Return where a profile first falls below the level, in steps, by linear interpolation."""
    below = np.flatnonzero(profile < level)
    if not len(below):
        return None
    last = int(below[0])
    before, after = float(profile[last - 1]), float(profile[last])
    return last - 1 + (before - level) / (before - after)


def write_psf(config: Config, folder: Path, *, seed: int, overwrite: bool) -> list[str]:
    """Compute both PSFs, fit the neural one, and write them.

    In the folder, for a configuration NAME: ``NAME_psf_analytic.tif`` and ``NAME_psf_neural.tif``
    (sections (1, z, r), r from the axis), ``NAME_psf_kernel.tif`` (z, y, x, its sum 1, of the
    neural one, with the voxels of the result) and ``NAME_psf.png``.

    Returns
    -------
    list of str
        What to tell: fit and widths.
    """
    params = config.params
    paths = {
        what: folder / f"{config.name}_psf{what}"
        for what in ("_analytic.tif", "_neural.tif", "_kernel.tif", ".png")
    }
    for path in paths.values():
        require_new(path, overwrite=overwrite)
    imaging = ImagingModel(params)
    fit = imaging.fit(params.nipsf_loss_target, seed)
    imaging.eval()
    neural = imaging.section().detach()
    kernel = section_to_kernel(neural, imaging.size_zyx)
    axial, lateral = params.res_axial, params.res_lateral
    both = {
        "analytic": Profiles(imaging.analytic.numpy(), axial, lateral),
        "neural": Profiles(neural.numpy(), axial, lateral),
    }

    make_folder(folder)
    for name, profiles in both.items():
        # A page of one (z, r) plane: its rows are z.
        voxel_um = (lateral, axial, lateral)
        section = profiles.section[None]
        write_volume(paths[f"_{name}.tif"], section, voxel_um, overwrite=overwrite)
    fine = (axial / imaging.scale, lateral, lateral)
    write_volume(paths["_kernel.tif"], kernel.numpy(), fine, overwrite=overwrite)
    with whole_file(paths[".png"], overwrite=overwrite) as partial:
        title = f"PSF of {config.name}" + (", two photons" if params.photons == 2 else "")
        draw_sections(both, title).savefig(partial, format="png")

    lines = [f"neural PSF: mean squared error {fit.mse:.2e} after {fit.steps} steps"]
    for name, profiles in both.items():
        widths = f"lateral {_text(profiles.lateral_fwhm_um)}, axial {_text(profiles.axial_fwhm_um)}"
        lines.append(f"FWHM, {name}: {widths}")
    return [*lines, f"picture: {paths['.png']}"]


def _text(width_um: float | None) -> str:
    return "beyond the section" if width_um is None else f"{width_um:.3f} um"


def draw_sections(both: dict[str, Profiles], title: str) -> Figure:
    """Draw the xz views of two PSFs, their difference, and profiles through the focus."""
    (first_name, first), (second_name, second) = both.items()
    figure = Figure(figsize=(11, 6.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(printable(title), parse_math=False)
    grid = figure.add_gridspec(2, 6, height_ratios=(1.15, 1))
    axes = [figure.add_subplot(grid[0, n : n + 2]) for n in (0, 2, 4)]
    for panel, (name, profiles) in zip(axes, both.items(), strict=False):
        _show(figure, panel, name, profiles.section, profiles, "viridis", (0, 1))
    difference = second.section - first.section
    limit = max(float(np.abs(difference).max()), 1e-6)
    name = f"{second_name} - {first_name}"
    _show(figure, axes[2], name, difference, first, "RdBu_r", (-limit, limit))
    across, along = (figure.add_subplot(grid[1, n : n + 3]) for n in (0, 3))
    for (name, profiles), style in zip(both.items(), ("-", "--"), strict=True):
        rows, radii = profiles.section.shape
        r = np.arange(1 - radii, radii) * profiles.lateral_um
        z = (np.arange(rows) - (rows - 1) / 2) * profiles.axial_um
        row = profiles.section[profiles.focus]
        label = f"{name}, FWHM "
        across.plot(r, np.r_[row[:0:-1], row], style, label=label + _text(profiles.lateral_fwhm_um))
        along.plot(z, profiles.section[:, 0], style, label=label + _text(profiles.axial_fwhm_um))
    for panel, axis in ((across, "x"), (along, "z")):
        reach = max(np.abs(line.get_xdata()).max() for line in panel.lines)
        panel.set(xlabel=f"{axis} (µm)", ylabel="PSF", xlim=(-reach, reach), ylim=(0, 1.3))
        panel.legend(loc="upper center", frameon=False, fontsize=9)
    return figure


def _show(
    figure: Figure,
    panel: Axes,
    title: str,
    section: Array,
    profiles: Profiles,
    colours: str,
    limits: tuple[float, float],
) -> None:
    half = np.concatenate([section[:, :0:-1], section], axis=1)
    height, width = (
        n * step / 2
        for n, step in zip(half.shape, (profiles.axial_um, profiles.lateral_um), strict=True)
    )
    image = panel.imshow(
        half,
        extent=(-width, width, height, -height),
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
    )
    panel.set(title=title, xlabel="x (µm)", ylabel="z (µm)")
    figure.colorbar(image, ax=panel, shrink=0.9)
