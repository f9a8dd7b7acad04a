"""What all light fields of ``serenet reconstruct`` share: networks, PSF shift, microscope."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection
from scopekit.memory import choose_device
from serenet.networks.base import Network, VolumeNetwork
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.vsnet import VsNet
from serenet.results.writer import ResultOptions
from serenet.views.microscope import load_microscope, microscope_of_views
from serenet.views.psf import shift_for_model
from serenet.virtual_scanning.frame import load_scan


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(ResultOptions):
    """The command's options, see ``serenet reconstruct --help``."""

    checkpoint: Path
    psf: Path | None = None
    psf_shift: Path | None = None
    microscope: str | None = None
    background: float | None = None
    selection: Selection = WHOLE_FILE
    virtual_scan: Path | None = None
    predao: Literal["no", "fit", "correlation", "subpixel"] = "no"
    half: bool = False
    max_memory_gb: float | None = None
    device: str = "auto"
    refine: int = 0
    dask: str | None = None


@dataclass(frozen=True)
class Setup:
    """What all files share.

    Attributes
    ----------
    model
        Makes the volumes.
    scan
        Makes an unscanned light field a scanned one first, or ``None``.
    shift
        PSF shift (A, D, 2), object pixels, where the model wants it.
    microscope
        The microscope, with the model's views and depths.
    options
        The command's.
    """

    model: VolumeNetwork
    scan: VsNet | None
    shift: Tensor | None
    microscope: LightFieldMicroscope
    options: ReconstructOptions

    @property
    def subtracts_background(self) -> bool:
        """Whether background is taken off the views: not from those of a network that takes it."""
        takes = self.model.takes_background and self.scan is None
        return not takes or self.options.background is not None

    @property
    def recorded(self) -> LightFieldMicroscope:
        """The microscope with the views that are read from a file."""
        if self.scan is None:
            return self.microscope
        return self.microscope.with_all_views()

    def volume_shape(self, field: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the volume of views of that height and width."""
        if self.scan is not None:
            field = tuple(n * self.scan.factor for n in field)
        return self.microscope.volume_shape(field)


def set_up(options: ReconstructOptions, model: Network | None = None) -> Setup:
    """Load what all frames share: networks, PSF shift, microscope.

    Parameters
    ----------
    options
        The command's.
    model
        The network behind ``options.checkpoint``, if it is loaded already.

    Raises
    ------
    UserError
        If they do not fit each other.
    """
    if model is None:
        model = load_checkpoint(options.checkpoint, choose_device(options.device))
    if not isinstance(model, VolumeNetwork):
        raise UserError(
            f"{options.checkpoint}: a {model.published_name} makes no volumes: give it to "
            "serenet correct-motion `checkpoint`"
        )
    if options.refine and not model.in_counts:
        raise UserError(
            f"`refine`: a {model.method} gives relative brightness, which cannot be compared "
            "with the recorded views; use a network of the SeReNet family, or serenet deconvolve"
        )
    told = load_microscope(options.microscope) if options.microscope else None
    shift = None
    learned = model.learned_optics
    if told is None and learned is not None and options.psf is None:
        told = learned.microscope
    if model.n_depths is not None and model.n_views is not None:
        if options.predao == "fit":
            raise UserError(
                f"`predao`: aberrations are fitted to the bright views that a serenet takes; a "
                f"{model.method} takes all of them, add `predao_by=subpixel`"
            )
        microscope = microscope_of_views(model.n_views, model.n_depths, options.psf, told)
    elif learned is not None and told == learned.microscope and options.psf_shift is None:
        shift, microscope = learned.shift, learned.microscope
    else:
        shift, microscope = shift_for_model(model.n_views, options.psf, options.psf_shift, told)
    scan = None
    if options.virtual_scan is not None:
        scan = load_scan(options.virtual_scan, microscope, model.device)
    return Setup(model, scan, shift, microscope, options)
