"""What all light fields of ``serenet deconvolve`` share: PSF, microscope, virtual scanning."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from optics import LightFieldMicroscope, Sieve, volume_sieve
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection
from scopekit.memory import choose_device
from serenet.networks.vsnet import VsNet
from serenet.results.writer import ResultOptions
from serenet.views.microscope import load_microscope, with_voxels
from serenet.views.psf import ViewPSF, psf_of_views
from serenet.virtual_scanning.frame import load_scan


@dataclass(frozen=True, kw_only=True)
class DeconvolveOptions(ResultOptions):
    """The command's options, see ``serenet deconvolve --help``."""

    psf: Path | None = None
    microscope: str | None = None
    iterations: int | None = None
    tv: float = 0.0
    stop_at_change: float = 0.0
    supersample: int | None = None
    background: float | None = None
    selection: Selection = WHOLE_FILE
    virtual_scan: Path | None = None
    max_memory_gb: float | None = None
    device: str = "auto"
    dask: str | None = None


@dataclass(frozen=True)
class Setup:
    """What all files share.

    Attributes
    ----------
    view_psf
        PSF of a channel.
    microscope
        The microscope, with the views and depths of the PSF.
    scan
        Makes an unscanned light field a scanned one first, or ``None``.
    device
        Where to compute.
    options
        The command's.
    """

    view_psf: ViewPSF
    microscope: LightFieldMicroscope
    scan: VsNet | None
    device: torch.device
    options: DeconvolveOptions

    @property
    def recorded(self) -> LightFieldMicroscope:
        """The microscope with the views that are read from a file."""
        return self.microscope if self.scan is None else self.microscope.with_all_views()

    @property
    def is_smooth(self) -> bool:
        """Whether volumes are as smooth as the views tell: those of unscanned light fields."""
        return self.microscope.scanning == 1

    @cached_property
    def sieve(self) -> Sieve | None:
        """What makes volumes as smooth, ``None`` where they are not; takes seconds."""
        return volume_sieve(self.microscope) if self.is_smooth else None

    def volume_shape(self, field: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape of the volume of views of that height and width."""
        factor = 1 if self.scan is None else self.scan.factor
        return self.microscope.volume_shape(tuple(factor * n for n in field))


def set_up(options: DeconvolveOptions) -> Setup:
    """Find what all frames share.

    Raises
    ------
    UserError
        If the options do not fit each other.
    """
    device = choose_device(options.device)
    told = load_microscope(options.microscope) if options.microscope else None
    if options.supersample is not None:
        if told is None or options.psf is not None:
            raise UserError(
                f"`supersample={options.supersample}`: a PSF file has its own voxels; leave that "
                "out, and name the microscope instead"
            )
        told = with_voxels(told, options.supersample)
    view_psf, microscope = psf_of_views(options.psf, told)
    scan = None
    if options.virtual_scan is not None:
        scan = load_scan(options.virtual_scan, microscope, device)
    return Setup(view_psf, microscope, scan, device, options)
