"""The parts of JNet's U-Net: residual blocks, head, recursive layers, tails."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.network.group_normalisation import group_normalised
from tenet.network.normalised_convolution import batch_statistics, normalised_convolution
from tenet.network.replicate_padding import pad_by_one

_HEADS = 8
_HEAD_PADDING = 3
# Statistics of single crops, some of them nearly empty, differ too much for PyTorch's 0.1: scores
# of the validation would jump from epoch to epoch.
_MOMENTUM = 0.01


class ResidualBlock(nn.Module):
    """``x + conv2(dropout(relu(bn2(conv1(relu(bn1(x)))))))``, replicate padding.

    Parameters
    ----------
    channels
        Of input and output.
    dropout
        Probability of a zero in training.
    keep
        Whether what is between the convolutions is kept for the way back, or computed again.

    Attributes
    ----------
    by_groups
        Whether training normalises by groups of channels of each crop, and drops nothing.
    """

    def __init__(self, channels: int, dropout: float, *, keep: bool = True) -> None:
        super().__init__()
        self.by_groups = False
        self.bn1 = nn.BatchNorm3d(channels, momentum=_MOMENTUM)
        self.conv1 = nn.Conv3d(channels, channels, 3)
        self.bn2 = nn.BatchNorm3d(channels, momentum=_MOMENTUM)
        self.conv2 = nn.Conv3d(channels, channels, 3)
        self.dropout, self.keep = dropout, keep

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, (B, C, D, H, W)."""
        if self.by_groups and self.training:
            return self._grouped(x)
        first = (x, self.bn1, batch_statistics(x, self.bn1), self.conv1)
        h = normalised_convolution(*first)
        kept = h.data_ptr()

        def pack(saved: Tensor) -> Tensor | None:
            return None if saved.data_ptr() == kept and not self.keep else saved

        def unpack(saved: Tensor | None) -> Tensor:
            if saved is not None:
                return saved
            with torch.no_grad():
                return normalised_convolution(*first)

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            return normalised_convolution(
                h,
                self.bn2,
                batch_statistics(h, self.bn2),
                self.conv2,
                dropout=self.dropout,
                added=x,
            )

    def _grouped(self, x: Tensor) -> Tensor:
        h = self.conv1(pad_by_one(F.relu(group_normalised(x, self.bn1))))
        out: Tensor = x + self.conv2(pad_by_one(F.relu(group_normalised(h, self.bn2))))
        return out


class Head(nn.Module):
    """Convolution 7 x 7 x 7 of one channel, replicate padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, channels, 2 * _HEAD_PADDING + 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, C, D, H, W) of (B, 1, D, H, W)."""
        padded = F.pad(x, 6 * [_HEAD_PADDING], mode="replicate")
        out: Tensor = self.conv(padded)
        return out.contiguous(memory_format=torch.channels_last_3d)


class Tail(nn.Module):
    """Convolution 3 x 3 x 3 to one channel, replicate padding."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, 1, D, H, W) of (B, C, D, H, W)."""
        out: Tensor = self.conv(pad_by_one(x))
        return out


class Pool(nn.Module):
    """Maximum of 2 x 2 x 2 voxels, convolution 1 x 1 x 1, ReLU."""

    def __init__(self, channels: int, wider: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, wider, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of half the size."""
        return F.relu_(self.conv(F.max_pool3d(x, 2)))


class Unpool(nn.Module):
    """Trilinear enlargement by 2, convolution 1 x 1 x 1, ReLU."""

    def __init__(self, wider: int, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(wider, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of twice the size."""
        # The two commute, and fewer channels are enlarged this way.
        narrow = self.conv(x)
        return F.relu_(F.interpolate(narrow, scale_factor=2, mode="trilinear"))


class VoxelAttention(nn.Module):
    """``x + attention(norm(x))`` among all voxels, 8 heads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, _HEADS, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``."""
        voxels = self.norm(x.flatten(2).transpose(1, 2))
        seen = self.attention(voxels, voxels, voxels, need_weights=False)[0]
        out: Tensor = x + seen.transpose(1, 2).reshape(x.shape)
        return out


def blocks(number: int, channels: int, dropout: float, *, keep: bool) -> list[nn.Module]:
    """Return residual blocks in a row."""
    return [ResidualBlock(channels, dropout, keep=keep) for _ in range(number)]


class RecursiveLayer(nn.Module):
    """A level of the U-Net with all below it: half the size, then back, added to the input.

    Parameters
    ----------
    channels
        Of this layer's input and of each level below.
    attention
        Whether each level below has self-attention.
    nblocks, dropout, keep
        See `ResidualBlock`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        attention: Sequence[bool],
        nblocks: int,
        dropout: float,
        *,
        keep: bool,
    ) -> None:
        super().__init__()
        outer, width = channels[:2]
        self.pool = Pool(outer, width)
        self.conv = nn.Conv3d(width, width, 1)
        self.prev = nn.Sequential(*blocks(nblocks, width, dropout, keep=keep))
        self.mid: nn.Module = nn.Identity()
        if len(channels) > 2:
            self.mid = RecursiveLayer(channels[1:], attention[1:], nblocks, dropout, keep=keep)
        self.attn = VoxelAttention(width) if attention[0] else nn.Identity()
        self.post = nn.Sequential(*blocks(nblocks, width, dropout, keep=keep))
        self.unpool = Unpool(width, outer)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, whose sizes two divides at every level."""
        h = self.conv(self.pool(x))
        h = self.post(self.attn(self.mid(self.prev(h))))
        enlarged: Tensor = self.unpool(h)
        return x + enlarged
