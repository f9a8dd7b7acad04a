"""The residual block of JNet: twice norm, ReLU and a convolution, added to the input."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.normalised_convolution import folded_norm, normalised_convolution, per_channel
from tenet.replicate_padding import empty_padded, fill_margin

# A slab of this size passes through the block's layers while it is in the cache.
_SLAB_BYTES = 16 * 2**20
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
        Whether activations are kept for the way back, or computed again.
    """

    def __init__(self, channels: int, dropout: float, *, keep: bool = True) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm3d(channels, momentum=_MOMENTUM)
        self.conv1 = nn.Conv3d(channels, channels, 3)
        self.bn2 = nn.BatchNorm3d(channels, momentum=_MOMENTUM)
        self.conv2 = nn.Conv3d(channels, channels, 3)
        self.dropout, self.keep = dropout, keep

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of ``x``, (B, C, D, H, W)."""
        if not self.training and not torch.is_grad_enabled():
            return self._by_slabs(x)
        h = normalised_convolution(x, self.bn1, self.conv1, keep=self.keep)
        h = normalised_convolution(h, self.bn2, self.conv2, dropout=self.dropout, keep=self.keep)
        return x + h

    def _by_slabs(self, x: Tensor) -> Tensor:
        """Compute slab by slab in z, without what the way back would need."""
        depth = x.shape[2]
        scale, shift = (per_channel(t) for t in folded_norm(self.bn1))
        scale2, shift2 = folded_norm(self.bn2)
        assert self.conv1.bias is not None
        kernel = self.conv1.weight * scale2[:, None, None, None, None]
        bias = self.conv1.bias * scale2 + shift2
        out = torch.empty_like(x)
        step = max(1, _SLAB_BYTES // (x[:, :, 0].numel() * x.element_size()))
        for first in range(0, depth, step):
            last = min(first + step, depth)
            # Planes of the first convolution's result, and of the input, that are needed.
            low, high = max(first - 1, 0), min(last + 1, depth)
            lowest, highest = max(low - 1, 0), min(high + 1, depth)
            before, after = int(low == 0), int(high == depth)
            slab = x[:, :, lowest:highest]
            padded = empty_padded(slab, before=before, after=after)
            middle = padded[:, :, before : padded.shape[2] - after, 1:-1, 1:-1]
            torch.addcmul(shift, slab, scale, out=middle).clamp_min_(0)
            fill_margin(padded, before=before, after=after)
            h = F.conv3d(padded, kernel, bias)
            before, after = int(first == 0), int(last == depth)
            padded = empty_padded(h, before=before, after=after)
            middle = padded[:, :, before : padded.shape[2] - after, 1:-1, 1:-1]
            torch.clamp_min(h, 0, out=middle)
            fill_margin(padded, before=before, after=after)
            h = F.conv3d(padded, self.conv2.weight, self.conv2.bias)
            torch.add(x[:, :, first:last], h, out=out[:, :, first:last])
        return out
