"""The residual block of JNet: twice norm, ReLU and a convolution, added to the input."""

import torch
from torch import Tensor, nn

from tenet.network.normalised_convolution import normalised_convolution, statistics

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
        first = (x, self.bn1, statistics(x, self.bn1), self.conv1)
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
                h, self.bn2, statistics(h, self.bn2), self.conv2, dropout=self.dropout, added=x
            )
