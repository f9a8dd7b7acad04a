"""What all reconstruction networks have in common."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from serenet.networks.tiling import Demand, Tile, resize_window
from serenet.views.brightness import normalise


@dataclass(frozen=True)
class LearnedOptics:
    """The optics that a network learned with.

    Attributes
    ----------
    microscope
        With the network's views and depths.
    shift
        PSF shift (A, D, 2), object pixels; ``None`` where the network does without.
    """

    microscope: LightFieldMicroscope
    shift: Tensor | None


class Network(nn.Module):
    """A network made by `serenet.build_model`, which fills in what it was made from.

    Attributes
    ----------
    published_name, published_args
        Name and constructor arguments under which the network was published.
    method
        What it does, the ending of its results' names.
    in_counts
        Whether its result has the brightness of its input.
    takes_background
        Whether it takes views as they are recorded, their background not subtracted.
    learned_optics
        Those of its training; ``None``: not known, as of published weights.
    """

    published_name: str = ""
    method: str = ""
    in_counts: bool = True
    takes_background: bool = False

    def __init__(self) -> None:
        super().__init__()
        self.published_args: dict[str, Any] = {}
        self.learned_optics: LearnedOptics | None = None

    @property
    def device(self) -> torch.device:
        """Where its parameters are."""
        return next(self.parameters()).device

    def lay_out(self) -> None:
        """Store the kernels channels last, which convolutions are fastest with."""
        layouts = {4: torch.channels_last, 5: torch.channels_last_3d}
        for parameter in self.parameters():
            if parameter.dim() in layouts:
                parameter.data = parameter.data.contiguous(memory_format=layouts[parameter.dim()])


def compute(result: Callable[[torch.dtype], Tensor], device: torch.device, *, half: bool) -> Tensor:
    """Return a network's result, called with the precision in which convolutions then compute.

    Half precision is bfloat16 on the CPU. On CUDA it is float16, which is finer and as fast or
    faster, and bfloat16 where that overflows, as it may for very bright views.
    """
    if not half:
        return result(torch.float32)
    for dtype in (torch.float16, torch.bfloat16)[device.type == "cpu" :]:
        with torch.autocast(device.type, dtype):
            found = result(dtype)
        if torch.isfinite(found).all():
            break
    return found


@dataclass(frozen=True)
class Prepared:
    """A whole light field as a network takes it, from `VolumeNetwork.prepare`.

    Attributes
    ----------
    values
        (..., h, w): the views, or what was made of them.
    shift
        PSF shift (A, D, 2) in view pixels, where tiles are yet to be refocused.
    scale
        Volume pixels per view pixel.
    n_depths
        Planes of the volume.
    """

    values: Tensor
    shift: Tensor | None
    scale: float
    n_depths: int

    @property
    def field(self) -> tuple[int, int]:
        """Height and width of the views."""
        return self.values.shape[-2], self.values.shape[-1]

    def to(self, device: torch.device) -> "Prepared":
        """Return the same on a device."""
        shift = None if self.shift is None else self.shift.to(device)
        return replace(self, values=self.values.to(device), shift=shift)


class VolumeNetwork(Network):
    """A network that makes a volume of views, tile by tile if need be.

    Attributes
    ----------
    n_views
        Views that it takes; ``None``: any number.
    n_depths
        Planes that it always makes; ``None``: those of the PSF shift, which it then needs.
    """

    n_views: int | None = None
    n_depths: int | None = None

    def check_inputs(self, views: Tensor, shift: Tensor | None) -> int:
        """Return how many planes the volume of these views has.

        Parameters
        ----------
        views
            (A, h, w).
        shift
            PSF shift (A, D, 2), or ``None``.

        Raises
        ------
        UserError
            If network, views and shift do not belong together.
        """
        n_views = views.shape[0] if self.n_views is None else self.n_views
        if views.dim() != 3 or views.shape[0] != n_views:
            raise UserError(
                f"views have shape {tuple(views.shape)}; the model takes ({n_views}, h, w)"
            )
        if self.n_depths is not None:
            return self.n_depths
        if shift is None or shift.dim() != 3 or shift.shape[0] != n_views or shift.shape[2] != 2:
            found = None if shift is None else tuple(shift.shape)
            raise UserError(f"the PSF shift has shape {found}; expected ({n_views}, depths, 2)")
        return shift.shape[1]

    def prepare(self, views: Tensor, shift: Tensor | None, scale: float) -> Prepared:
        """Do what needs the whole field, such as finding its brightness.

        Parameters
        ----------
        views
            (A, h, w), background subtracted unless `takes_background`.
        shift
            (A, D, 2), object pixels; ``None`` if the network does without.
        scale
            Volume pixels per view pixel.

        Raises
        ------
        UserError
            If network, views and shift do not belong together.
        """
        raise NotImplementedError

    def demand(self, n_depths: int, scale: float) -> Demand:
        """Return what tiles need: surround and memory."""
        raise NotImplementedError

    def tile(self, prepared: Prepared, tile: Tile, dtype: torch.dtype) -> Tensor:
        """Return the part of the volume that ``tile`` stands for: (D, rows, columns), float32.

        Parameters
        ----------
        prepared
            The whole field, where the network is.
        tile
            Which part.
        dtype
            In which convolutions compute, see `compute`.
        """
        raise NotImplementedError


class EnlargingNetwork(VolumeNetwork):
    """A network whose volume is finer than the views, and resized to its own grid at the end.

    Attributes
    ----------
    n_views
        Input channels.
    halo
        View pixels beyond which an input pixel cannot change the output.
    step
        Tiles that start at multiples of so many view pixels give what the whole field gives.
    """

    n_views: int
    halo: int
    step: int = 1

    @property
    def enlargement(self) -> int:
        """Lateral pixels before the final resize per view pixel."""
        raise NotImplementedError

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, (B, 1, D, h enlargement, w enlargement)."""
        raise NotImplementedError

    def enlarged_slabs_of(self, prepared: Prepared, tile: Tile) -> Iterator[Tensor]:
        """Yield the same of a tile, (1, 1, planes, ...), some planes at a time."""
        raise NotImplementedError

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        raise NotImplementedError

    def demand(self, n_depths: int, scale: float) -> Demand:
        """Return what tiles need: surround and memory."""
        return Demand(self.halo, self.step, self.n_views, self.peak_values(n_depths))

    def tile(self, prepared: Prepared, tile: Tile, dtype: torch.dtype) -> Tensor:
        """Return the part of the volume that ``tile`` stands for: (D, rows, columns), float32."""
        places = (tile.volume_rows, tile.volume_columns)
        sides = (stop - start for start, stop in places)
        volume = prepared.values.new_empty((prepared.n_depths, *sides))
        if dtype == torch.float16:
            # The sums of the decomposition need more than bfloat16's eight bits.
            prepared = replace(prepared, values=prepared.values.half())
        first = 0
        for slab in self.enlarged_slabs_of(prepared, tile):
            planes = slab[0, 0].float()
            for axis, (place, covered, n) in enumerate(
                zip(places, (tile.rows, tile.columns), prepared.field, strict=True), start=1
            ):
                start, source = covered[0] * self.enlargement, n * self.enlargement
                size = round(n * prepared.scale)
                planes = resize_window(planes, axis, place, start, source, size)
            volume[first : first + len(planes)] = planes
            first += len(planes)
        return volume

    def forward(self, inputs: Tensor, scale: float) -> Tensor | tuple[Tensor, Tensor]:
        """Reconstruct a volume.

        Parameters
        ----------
        inputs
            Views as the network takes them, h x w the last two axes.
        scale
            Volume pixels per view pixel, ``n_num / scanning``.

        Returns
        -------
        Tensor
            (B, 1, D, round(h scale), round(w scale)); in training mode also the volume before
            the final resize.
        """
        enlarged = self.enlarged(inputs)
        size = [round(n * scale) for n in inputs.shape[-2:]]
        resized = F.interpolate(enlarged[:, 0], size=size, mode="bilinear", align_corners=False)[
            :, None
        ]
        return (resized, enlarged) if self.training else resized


class ViewNetwork(EnlargingNetwork):
    """An enlarging network that takes views as they are, (B, A, h, w), from 0 to 1."""

    n_depths: int

    def prepare(self, views: Tensor, shift: Tensor | None, scale: float) -> Prepared:
        """Bring the 10 and 99.9 percentiles of the views to 0 and 1."""
        n_depths = self.check_inputs(views, shift)
        return Prepared(normalise(views, 10, 99.9), None, scale, n_depths)

    def enlarged_slabs_of(self, prepared: Prepared, tile: Tile) -> Iterator[Tensor]:
        """Yield the volume of a tile before the final resize, all planes at once."""
        window = prepared.values[None, :, slice(*tile.rows), slice(*tile.columns)]
        yield self.enlarged_tile(window, tile, prepared.field)

    def enlarged_tile(self, inputs: Tensor, tile: Tile, field: tuple[int, int]) -> Tensor:
        """Return the volume before the final resize of a tile of a field of that size."""
        return self.enlarged(inputs)
