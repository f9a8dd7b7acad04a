"""VCD-Net (Wang et al., Nature Methods 2021): from views straight to a volume.

A 2D network whose channels become depths. As a baseline of SeReNet it was trained on the same
volumes; the definition is that of that comparison (Lu et al., Nature Methods 2025).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.base import ViewNetwork
from serenet.networks.tiling import Tile, resize_window

_DOWN = (64, 128, 256, 512, 512, 512)


class _DownBlock(nn.Module):
    """Residual convolution whose result is pooled; channels that are new start from zero."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        y = y + F.pad(x, (0, 0, 0, 0, 0, y.shape[1] - x.shape[1]))
        return F.max_pool2d(y, 3, stride=2, padding=1)


class _UpBlock(nn.Module):
    """Enlarge to the size of what was kept on the way down, and join with it."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        if x.shape[-2:] != kept.shape[-2:]:
            x = F.interpolate(x, size=kept.shape[-2:], mode="bilinear", align_corners=False)
        x = self.conv(torch.cat([x, kept], dim=1))
        normalised: Tensor = self.norm(F.relu(x))
        return normalised


class VCDNet(ViewNetwork):
    """View-channel-depth network: views are interpolated 16 times, then pass a 2D U-Net.

    Parameters
    ----------
    n_views
        Input channels.
    n_depths
        Output channels.
    channels
        Of the first convolution, a multiple of 32.

    Notes
    -----
    Inputs (B, A, h, w), normalised to [0, 1]; values of the volume lie in (-1, 1).

    Batch normalisation takes the statistics of the batch while it learns, which at the usual batch
    size of 1 are those of one crop, and running averages of them afterwards: results of training
    and evaluation mode differ, and crops that are all dark, or one kind of sample after another,
    spoil the averages. Weights are to be judged in evaluation mode (`serenet.load_checkpoint`).
    """

    method = "vcdnet"
    in_counts = False
    halo = 14
    # The deepest level has half the views' resolution.
    step = 2

    def __init__(self, n_views: int = 169, n_depths: int = 101, channels: int = 128) -> None:
        super().__init__()
        self.n_views = n_views
        self.n_depths = n_depths
        self.channels = channels
        self.first = nn.Conv2d(n_views, channels, 7, padding=3)
        widths = [channels // 2**k for k in range(2, 6)]
        self.interpolation = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, padding=1) for c in widths)
        last = 2 * widths[-1]
        self.joined = nn.Sequential(
            nn.Conv2d(last, last, 3, padding=1), nn.BatchNorm2d(last), nn.ReLU()
        )
        self.stem = nn.Sequential(
            nn.Conv2d(last, _DOWN[0], 3, padding=1), nn.BatchNorm2d(_DOWN[0]), nn.ReLU()
        )
        self.down = nn.ModuleList(_DownBlock(a, b) for a, b in pairwise(_DOWN))
        outputs = (n_depths, 128, 256, 512, 512)
        below = (*outputs[1:], _DOWN[-1])
        self.up = nn.ModuleList(
            _UpBlock(c + kept, out) for c, kept, out in zip(below, _DOWN[:-1], outputs, strict=True)
        )

    @property
    def enlargement(self) -> int:
        """Lateral pixels before the final resize per view pixel."""
        return 16

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, of views (B, A, h, w) in [0, 1]."""
        kept, deepest = self._downwards(inputs)
        return self._upwards(kept, deepest)

    def enlarged_tile(self, inputs: Tensor, tile: Tile, field: tuple[int, int]) -> Tensor:
        """Return the same of a tile of a field of that height and width.

        An odd field's deepest level is resized by a little less than 2, so where a pixel comes
        to lie depends on the whole field.
        """
        kept, deepest = self._downwards(inputs)
        for axis, (place, n) in enumerate(
            zip((tile.rows, tile.columns), field, strict=True), start=2
        ):
            deepest = resize_window(deepest, axis, place, place[0] // 2, -(-n // 2), n)
        return self._upwards(kept, deepest)

    def _downwards(self, inputs: Tensor) -> tuple[list[Tensor], Tensor]:
        x = self.first(inputs.contiguous(memory_format=torch.channels_last))
        for conv in self.interpolation:
            x = conv(F.pixel_shuffle(x, 2).contiguous(memory_format=torch.channels_last))
        x = self.stem(self.joined(x))
        kept = []
        for block in self.down:
            kept.append(x)
            x = block(x)
        return kept, x

    def _upwards(self, kept: list[Tensor], x: Tensor) -> Tensor:
        for up in reversed(self.up):
            x = up(x, kept.pop())
        return torch.tanh(x)[:, None]

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        return 256.0 * (480 + n_depths)
