"""From views to volumes: by a network, by deconvolution, and by both."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from optics import LightFieldMicroscope, PSFFile, Subset, richardson_lucy, volume_sieve
from scopekit.errors import UserError
from scopekit.images.target import Target
from scopekit.memory import memory_budget
from scopekit.progress import Advance, OnProgress, counted
from serenet.api.arrays import AnyArray, Array, as_tensor, like
from serenet.api.files import load_microscope
from serenet.api.sources import Optics, is_psf_file, view_psf_of
from serenet.deconvolution.operators import ViewOperators
from serenet.deconvolution.subsets import (
    EXPONENT,
    CountedSubsets,
    Pedestal,
    ViewSubsets,
    flat_start,
    split_pedestal,
)
from serenet.deconvolution.windows import Window, plan_windows, room_beside
from serenet.networks.base import Network, VolumeNetwork
from serenet.reconstruction.refinement import refine as refine_in_place
from serenet.reconstruction.volume import reconstruct as reconstruct_tensor
from serenet.views.brightness import exact_gain
from serenet.views.psf import shift_for_model


def reconstruct(
    views: Array,
    model: Network,
    shift: Optics | None,
    scale: float | None = None,
    *,
    half: bool = False,
    max_memory_gb: float | None = None,
    on_progress: OnProgress | None = None,
) -> Array:
    """Reconstruct a volume from the views of a light field with a trained network.

    Parameters
    ----------
    views
        (A, h, w), in the model's channel order, in counts, background subtracted; an rlnet takes
        them with their background.
    model
        From `serenet.load_checkpoint`; it decides where to compute.
    shift
        The microscope, its name, its YAML or a PSF file. Or, with ``scale``, the shift of the PSF
        (A, D, 2), row and column in object pixels; VCD-Net and HyLFM-Net do without: ``None``.
    scale
        Volume pixels per view pixel, ``n_num / scanning``: 13 / 3 for nnum13, 5 for nnum15; told
        by a microscope or a PSF file.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same volume.
    on_progress
        Told the number of tiles done, and of all; what it raises ends the work.

    Returns
    -------
    array or tensor
        (D, round(h scale), round(w scale)), float32, not negative. The SeReNet family gives
        counts, the others (VCD-Net, HyLFM-Net, RL-Net) a relative brightness from 0.

    Raises
    ------
    UserError
        If views, network and shift do not fit each other, hold NaN, or memory does not suffice.

    References
    ----------
    SeReNet: Lu et al., Nature Methods (2025).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> views = np.random.default_rng(0).poisson(200, (49, 12, 12))
    >>> model = serenet.load_checkpoint("demo")
    >>> shift = np.zeros((49, 5, 2))
    >>> serenet.reconstruct(views, model, shift, 13 / 3).shape
    (5, 52, 52)
    """
    given = _finite(as_tensor(views), "views")
    voxel_um = table = None
    if isinstance(shift, np.ndarray | Tensor):
        table = as_tensor(shift)
    elif shift is not None:
        table, microscope = _shift_of(shift, model, len(given))
        scale, voxel_um = microscope.lateral_scale, microscope.voxel_um
    if scale is None:
        raise UserError("reconstruct: give the scale too, n_num / scanning, or a microscope")
    unit = exact_gain(given)
    volume = reconstruct_tensor(
        given * unit,
        model,
        table,
        scale,
        half=half,
        max_memory_gb=max_memory_gb,
        on_progress=on_progress,
    )
    if model.in_counts:
        volume /= unit
    return like(volume, views, voxel_um)


def _shift_of(
    source: LightFieldMicroscope | PSFFile | str | Path, model: Network, n_views: int
) -> tuple[Tensor | None, LightFieldMicroscope]:
    """Return the PSF shift, unless the network does without, and the microscope."""
    if isinstance(source, PSFFile):
        source = source.path
    if isinstance(model, VolumeNetwork) and model.n_depths is not None:
        return None, load_microscope(source) if isinstance(source, str | Path) else source
    if isinstance(source, LightFieldMicroscope):
        return shift_for_model(n_views, None, None, source)
    if is_psf_file(source):
        return shift_for_model(n_views, Path(source), None, None)
    return shift_for_model(n_views, None, None, load_microscope(source))


def deconvolve(
    views: Array,
    psf_or_microscope: Optics,
    iterations: int = 3,
    *,
    tv: float = 0.0,
    stop_at_change: float = 0.0,
    microscope: LightFieldMicroscope | None = None,
    device: str | torch.device | None = None,
    max_memory_gb: float | None = None,
    on_progress: OnProgress | None = None,
) -> Array:
    """Reconstruct a volume iteratively: ordered-subset Richardson-Lucy, one view at a time.

    Of an unscanned light field the volume is as smooth in each plane as the views tell
    (`optics.Sieve`), the background of each view need not be subtracted, and three views are used
    at a time.

    Parameters
    ----------
    views
        (A, h, w), the microscope's views in its order, background subtracted, not negative.
    psf_or_microscope
        A microscope, from which the PSF is computed view by view; its name or YAML; a PSF file;
        or a PSF (A, D, H, W) with its ``microscope``.
    iterations
        Sweeps over all views, at least 1.
    tv
        Weight of the total variation, from 0: 0.002 a little, 0.02 strong.
    stop_at_change
        Stop when a sweep changes the volume by less than this share; 0 never stops.
    microscope
        Of a PSF that does not tell it.
    device
        Where to compute; default: where the views are, arrays on the CPU.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. A field that needs more is cut into
        windows with half a PSF around, which give the whole within 0.2 %.
    on_progress
        Told the number of view updates done, and of all; what it raises ends the work.

    Returns
    -------
    array or tensor
        (D, round(h scale), round(w scale)), float32, not negative, in the views' units.

    Raises
    ------
    UserError
        If views and optics do not fit, views are negative or NaN, or memory does not suffice.

    References
    ----------
    Richardson (1972); Lucy (1974); ordered subsets: Hudson and Larkin (1994); total variation:
    Dey et al. (2006).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> microscope = serenet.load_microscope("nnum13").with_middle_depths(3)
    >>> microscope = microscope.with_views(microscope.views[:5])
    >>> views = np.random.default_rng(0).poisson(50, (5, 9, 9))
    >>> serenet.deconvolve(views, microscope, iterations=1).shape
    (3, 39, 39)
    """
    if iterations < 1 or tv < 0 or stop_at_change < 0:
        raise UserError("deconvolve: iterations from 1, tv and stop_at_change from 0")
    field = _plan(
        views,
        psf_or_microscope,
        microscope,
        device,
        max_memory_gb,
        needs={"tv": tv > 0, "compares": stop_at_change > 0},
        smooth=True,
    )
    solve = partial(
        richardson_lucy,
        iterations=iterations,
        exponent=EXPONENT,
        tv_weight=tv,
        relative_change=stop_at_change,
    )
    advance = counted(on_progress, iterations * len(field.subsets) * len(field.windows))
    return like(field.solve(solve, advance), views, field.subsets.microscope.voxel_um)


def refine(
    volume: Array,
    views: Array,
    psf_or_microscope: Optics,
    n_updates: int = 25,
    *,
    microscope: LightFieldMicroscope | None = None,
    device: str | torch.device | None = None,
    max_memory_gb: float | None = None,
    on_progress: OnProgress | None = None,
) -> Array:
    """Improve a network's volume by physics: a few Richardson-Lucy updates, one view each.

    Three views are left out; when they fit worse than before, it stops and goes back.

    Parameters
    ----------
    volume
        (D, H, W), the network's result, of any brightness; it stays as it is.
    views
        (A, h, w), those it was made from, background subtracted, not negative; more than 3.
    psf_or_microscope, microscope
        As in `serenet.deconvolve`.
    n_updates
        Updates at most; with more than there are views their order starts anew.
    device, max_memory_gb, on_progress
        As in `serenet.deconvolve`.

    Returns
    -------
    array or tensor
        (D, H, W), float32, not negative, in the views' units.

    Raises
    ------
    UserError
        If volume, views and optics do not fit, hold NaN, or memory does not suffice.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> microscope = serenet.load_microscope("nnum13").with_middle_depths(3)
    >>> microscope = microscope.with_views(microscope.views[:5])
    >>> views = np.random.default_rng(0).poisson(50, (5, 9, 9))
    >>> volume = np.ones((3, 39, 39))
    >>> serenet.refine(volume, views, microscope, n_updates=2).shape
    (3, 39, 39)
    """
    if n_updates < 1:
        raise UserError("refine: at least 1 update")
    field = _plan(views, psf_or_microscope, microscope, device, max_memory_gb)
    if tuple(volume.shape) != field.volume_shape:
        raise UserError(
            f"volume: shape {tuple(volume.shape)}; for these views and optics it is "
            f"{field.volume_shape}"
        )
    start = _finite(as_tensor(volume), "volume").detach().to("cpu", torch.float32)
    refined = start.mul(field.unit).clamp_(min=0)
    with TemporaryDirectory(prefix="serenet_refining") as folder:
        refine_in_place(
            Target(refined.numpy()),
            field.subsets,
            field.windows,
            n_updates,
            Path(folder),
            device=field.device,
            advance=counted(on_progress, n_updates * len(field.windows)),
        )
    return like(refined.div_(field.unit), volume, field.subsets.microscope.voxel_um)


@dataclass(frozen=True)
class _LightField:
    """The data, a subset a view, the windows in which it fits the memory, and where to compute.

    The views are ``unit`` times those given, see `exact_gain`.
    """

    subsets: ViewSubsets
    windows: list[Window]
    device: torch.device
    unit: float

    @property
    def volume_shape(self) -> tuple[int, int, int]:
        return (len(self.subsets.microscope.depths_um), *self.subsets.volume_yx)

    def solve(
        self, solver: Callable[[Iterable[Subset], Tensor], Tensor], advance: Advance
    ) -> Tensor:
        """Return the volume of all windows, each solved from a flat one."""
        volume = torch.empty(self.volume_shape)
        for window in self.windows:
            inside = self.subsets.inside(window, self.device)
            estimate = solver(CountedSubsets(inside, advance), flat_start(inside))
            part = window.crop(inside.volume(estimate))
            volume[(slice(None), *window.core)] = part.div_(self.unit).cpu()
        return volume


def _plan(
    views: AnyArray,
    source: Optics,
    told: LightFieldMicroscope | None,
    device: str | torch.device | None,
    max_memory_gb: float | None,
    *,
    needs: Mapping[str, bool] = MappingProxyType({"tv": False}),
    smooth: bool = False,
) -> _LightField:
    given = _checked(views).detach().float()
    if float(given.min()) < 0:
        raise UserError("views: negative values; subtract the background first")
    view_psf, microscope = view_psf_of(source, told)
    if len(given) != len(microscope.views):
        raise UserError(
            f"views: {len(given)} of them; the microscope names {len(microscope.views)}"
        )
    field = (given.shape[-2], given.shape[-1])
    _, *volume_yx = microscope.volume_shape(field)
    order = microscope.oblique_first
    where = torch.device(device or given.device)
    budget = memory_budget(where, max_memory_gb)
    size = max(view_psf(0).shape[-2:])
    sieve = volume_sieve(microscope) if smooth and microscope.scanning == 1 else None
    operators = ViewOperators(view_psf, microscope, sieve=sieve)
    windows = plan_windows(field, microscope, size, budget, margin=operators.margin, **needs)
    operators.room = room_beside(windows, microscope, size, budget, **needs)
    unit = exact_gain(given)
    pedestal: Pedestal | None = None
    if sieve is None:
        given = given * unit
    else:
        given, pedestal = split_pedestal(given, gain=unit)
    subsets = ViewSubsets(given, operators, (volume_yx[0], volume_yx[1]), order, pedestal)
    return _LightField(subsets, windows, where, unit)


def _checked(views: AnyArray) -> Tensor:
    given = as_tensor(views)
    if given.dim() != 3 or 0 in given.shape:
        raise UserError(f"views: shape {tuple(given.shape)}; give (A, h, w)")
    return _finite(given, "views")


def _finite(values: Tensor, name: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise UserError(f"{name}: NaN or infinite values; replace them by numbers first")
    return values
