"""What all reconstruction networks have in common."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.tiling import Tile


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
    """

    published_name: str = ""
    method: str = ""
    in_counts: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.published_args: dict[str, Any] = {}

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


class VolumeNetwork(Network):
    """A network that makes a volume, coarser or finer than the volume's own grid.

    Attributes
    ----------
    n_views
        Input channels.
    enlargement
        Lateral pixels per view pixel before the final resize.
    halo
        View pixels beyond which an input pixel cannot change the output.
    step
        Tiles that start at multiples of so many view pixels give what the whole field gives.
    """

    n_views: int
    halo: int
    step: int = 1

    @property
    def enlargement(self) -> int:  # noqa: D102
        raise NotImplementedError

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, (B, 1, D, h enlargement, w enlargement)."""
        raise NotImplementedError

    def enlarged_tile(self, inputs: Tensor, tile: Tile, field: tuple[int, ...]) -> Tensor:
        """Return the same of a tile of a field of that height and width."""
        return self.enlarged(inputs)

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        raise NotImplementedError

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
