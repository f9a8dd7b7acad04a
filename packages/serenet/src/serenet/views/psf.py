"""The PSF one view at a time, from a file or computed, so that it need not fit in memory."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from optics import LightFieldPreset, PSFFile, open_psf, phase_space_psf
from scopekit.errors import UserError
from serenet.views.microscope import channels_of, preset_for_model, require_same_microscope

TOGETHER = 64 * 10**6
"""Most bytes of the PSFs that are computed together."""

ViewPSF = Callable[[int], Tensor]
"""``view_psf(channel)`` gives (1, D, h, w) for a channel of the preset's views."""


def psf_of_views(
    psf: Path | None, preset: LightFieldPreset | None
) -> tuple[ViewPSF, LightFieldPreset]:
    """Return the PSF of single views, and the microscope with the views and depths of it.

    Parameters
    ----------
    psf
        PSF file, or ``None`` to compute it from ``preset``.
    preset
        The microscope; may be ``None`` if the file tells it.
    """
    if psf is None:
        if preset is None:
            raise UserError("give the PSF with --psf FILE, or the optics with --preset")
        return _computed(preset), preset
    file = open_psf(psf)
    require_same_microscope(file, preset)
    base = preset or file.preset or preset_for_model(file.n_views)
    # A file of all views serves for the preset's own.
    wanted = base.views if preset or file.preset is None else file.preset.views
    channels = channels_of(file, wanted)
    depths = (file.preset or base).depths_um
    if file.n_depths != len(depths):
        raise UserError(
            f"{psf}: {file.n_depths} depths; the preset has {len(depths)}. "
            "Describe the microscope with --preset FILE.yaml"
        )
    return _from_file(file, channels), base.model_copy(
        update={"views": tuple(wanted), "depths_um": depths}
    )


def _computed(preset: LightFieldPreset) -> ViewPSF:
    """Return PSFs that are computed when they are asked for.

    Views at one distance from the axis are mirror images, and cost as little together as one. In
    the order that deconvolution takes them they follow one another.
    """
    middle = preset.n_num // 2
    distances = [
        (a // preset.n_num - middle) ** 2 + (a % preset.n_num - middle) ** 2 for a in preset.views
    ]
    most = max(TOGETHER // (4 * len(preset.depths_um) * preset.psf_size**2), 1)
    made: dict[int, Tensor] = {}

    def view_psf(channel: int) -> Tensor:
        if channel not in made:
            made.clear()
            alike = [c for c, far in enumerate(distances) if far == distances[channel]]
            first = alike.index(channel)
            chosen = alike[first : first + most]
            psf = phase_space_psf(
                preset, views=[preset.views[c] for c in chosen], size=preset.psf_size
            )
            made.update(zip(chosen, psf.split(1), strict=True))
        return made[channel]

    return view_psf


def _from_file(file: PSFFile, channels: list[int]) -> ViewPSF:
    def view_psf(channel: int) -> Tensor:
        return file.read([channels[channel]])

    return view_psf
