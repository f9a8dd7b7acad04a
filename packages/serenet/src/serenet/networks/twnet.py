"""TW-Net: where a view of a 3 x 3 scan can be trusted although the sample moves (Lu et al. 2025).

Its parameters bear the published names.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scopekit.errors import UserError
from serenet.networks.base import Network

_POSITIONS = 9
_SIDE = 3
_MOST_CHANNELS = 1024
_MOST_LEVELS = 8


class _Layer(nn.Module):
    """Convolution 3 x 3 and ReLU."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class TWNet(Network):
    """Time-weighting network: a U-Net on the nine sub-images of interlaced views.

    Parameters
    ----------
    channels
        Of the first convolution, then of every level of the U-Net, downwards.

    Attributes
    ----------
    published_channels
        Those of the published network.
    values_per_pixel
        Numbers that motion correction holds at once per pixel of an interlaced view (measured).
    """

    method = "twnet"
    published_channels = (16, 16, 32, 32, 64)
    values_per_pixel = 55

    def __init__(self, channels: Sequence[int] = published_channels) -> None:
        super().__init__()
        first, deepest = channels[0], channels[-1]
        upwards = [*reversed(channels)]
        self.conv_init = nn.Conv2d(_POSITIONS, first, 3, padding=1)
        self.down_layers = nn.ModuleList(_Layer(a, b) for a, b in pairwise(channels))
        self.up_layers = nn.ModuleList(
            [_Layer(deepest, deepest), *(_Layer(2 * a, b) for a, b in pairwise(upwards))]
        )
        self.conv_final = nn.Sequential(
            nn.Conv2d(first, _POSITIONS * first, 1),
            nn.PixelShuffle(_SIDE),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, 1, 3, padding=1),
            nn.Sigmoid(),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the mask: 1 where the interlaced view is as good as a still one.

        Parameters
        ----------
        inputs
            The sub-images (B, 9, h, w) of normalised views, position ``3 row + column`` first,
            see `scale_brightness` and `sub_images` in `serenet.motion.correction`.

        Returns
        -------
        Tensor
            (B, 1, 3 h, 3 w), 0 to 1.
        """
        height, width = inputs.shape[-2:]
        multiple = 2 ** len(self.down_layers)
        below, right = -height % multiple, -width % multiple
        top, left = below // 2, right // 2
        padded = F.pad(inputs, (left, right - left, top, below - top))
        x = self._unet(self.conv_init(padded))
        mask: Tensor = self.conv_final(x[..., top : top + height, left : left + width])
        return mask

    def _unet(self, x: Tensor) -> Tensor:
        kept = []
        for down in self.down_layers:
            x = down(x)
            kept.append(x)
            x = F.max_pool2d(x, 2)
        x = self.up_layers[0](x)
        for up in self.up_layers[1:]:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = up(torch.cat([x, kept.pop()], dim=1))
        return x


def build_twnet(channels: Any = TWNet.published_channels) -> TWNet:
    """Make a TW-Net with random weights.

    Raises
    ------
    UserError
        If ``channels`` is not a list of 2 to 8 whole numbers from 1 to 1024.
    """
    fits = isinstance(channels, list | tuple) and 2 <= len(channels) <= _MOST_LEVELS
    if not fits or any(type(n) is not int or not 1 <= n <= _MOST_CHANNELS for n in channels):
        raise UserError(
            f"channels is {channels!r}; expected 2 to {_MOST_LEVELS} whole numbers, "
            f"1 to {_MOST_CHANNELS} each"
        )
    return TWNet(channels)
