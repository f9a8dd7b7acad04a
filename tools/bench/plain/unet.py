"""JNet's definition in plain PyTorch layers, one after the other, without any shortcut."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same(channels: int, made: int, size: int) -> nn.Conv3d:
    """Return a convolution that keeps the size, the border values repeated."""
    return nn.Conv3d(channels, made, size, padding=size // 2, padding_mode="replicate")


class Block(nn.Module):
    """A residual block of two convolutions, each after normalisation and ReLU."""

    def __init__(self, c: int, dropout: float) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm3d(c), nn.BatchNorm3d(c)
        self.conv1, self.conv2 = same(c, c, 3), same(c, c, 3)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return a volume of the same shape."""
        h = self.conv1(self.relu(self.bn1(x)))
        result: Tensor = x + self.conv2(self.dropout(self.relu(self.bn2(h))))
        return result


def blocks(c: int, n: int, dropout: float) -> list[nn.Module]:
    """Return so many residual blocks."""
    return [Block(c, dropout) for _ in range(n)]


class Named(nn.Module):
    """A convolution under the published name."""

    def __init__(self, conv: nn.Conv3d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution."""
        result: Tensor = self.conv(x)
        return result


class Level(nn.Module):
    """A coarser level and all below it, added to what comes in."""

    def __init__(self, channels: Sequence[int], n: int, dropout: float) -> None:
        super().__init__()
        a, b = channels[:2]
        self.pool, self.unpool = Named(nn.Conv3d(a, b, 1)), Named(nn.Conv3d(b, a, 1))
        self.conv = nn.Conv3d(b, b, 1)
        self.prev = nn.Sequential(*blocks(b, n, dropout))
        self.post = nn.Sequential(*blocks(b, n, dropout))
        self.mid = Level(channels[1:], n, dropout) if len(channels) > 2 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a volume of the same shape."""
        h = self.conv(F.relu(self.pool(F.max_pool3d(x, 2))))
        h = self.post(self.mid(self.prev(h)))
        h = F.interpolate(h, scale_factor=2, mode="trilinear", align_corners=False)
        return x + F.relu(self.unpool(h))


class PlainUNet(nn.Module):
    """The network alone: from an image to structure and brightness, ``scale`` times finer in z."""

    def __init__(
        self, channels: Sequence[int], n: int = 2, dropout: float = 0.5, scale: int = 10
    ) -> None:
        super().__init__()
        c = channels[0]
        self.scale = scale
        self.prev0 = Named(same(1, c, 7))
        self.prev = nn.Sequential(*blocks(c, n, dropout))
        self.mid = Level(channels, n, dropout)
        self.postx, self.postz = (
            nn.Sequential(*blocks(c, n, dropout), Named(same(c, 1, 3))) for _ in range(2)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return two (B, 1, scale Z, Y, X) of (B, 1, Z, Y, X)."""
        x = F.interpolate(x, scale_factor=(self.scale, 1, 1), mode="trilinear", align_corners=False)
        x = self.mid(self.prev(self.prev0(x)))
        return torch.sigmoid(self.postx(x)), torch.sigmoid(self.postz(x))
