"""HyLFM-Net (Wagner et al., Nature Methods 2021): from views straight to a volume.

A 2D network whose channels become depths and seven channels of a 3D one. As a baseline of SeReNet
it was trained on the same volumes; the definition is that of that comparison (Lu et al., Nature
Methods 2025).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serenet.networks.base import ViewNetwork

_CHANNELS = 7  # of the 3D part
_DARK = -3.0


class _ResidualBlock(nn.Module):
    """Two convolutions around which the input goes unchanged, or through a 1 x 1 convolution."""

    def __init__(self, kind: type[nn.Conv2d] | type[nn.Conv3d], c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            kind(c_in, c_out, 3, padding=1), nn.ReLU(), kind(c_out, c_out, 3, padding=1)
        )
        self.projection = kind(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x) + self.projection(x))


class HyLFMNet(ViewNetwork):
    """Hybrid light-field network: 2D residual blocks, then 3D ones on seven channels.

    Parameters
    ----------
    n_views
        Input channels.
    n_depths
        Planes of the volume.

    Notes
    -----
    Inputs (B, A, h, w), normalised to [0, 1]; values of the volume lie in (0, 1).
    """

    method = "hylfmnet"
    in_counts = False
    halo = 8

    def __init__(self, n_views: int = 169, n_depths: int = 101) -> None:
        super().__init__()
        self.n_views = n_views
        self.n_depths = n_depths
        wide, narrow = 8 * n_depths, 4 * n_depths
        self.flat = nn.Sequential(
            _ResidualBlock(nn.Conv2d, n_views, wide),
            _ResidualBlock(nn.Conv2d, wide, wide),
            nn.ConvTranspose2d(wide, narrow, 2, stride=2),
            _ResidualBlock(nn.Conv2d, narrow, narrow),
            nn.Conv2d(narrow, _CHANNELS * n_depths, 1),
            nn.ReLU(),
        )
        c = _CHANNELS
        self.deep = nn.Sequential(
            _ResidualBlock(nn.Conv3d, c, c),
            nn.ConvTranspose3d(c, c, (3, 2, 2), stride=(1, 2, 2), padding=(1, 0, 0)),
            _ResidualBlock(nn.Conv3d, c, c),
            _ResidualBlock(nn.Conv3d, c, c),
            nn.Conv3d(c, 1, 1),
            nn.Sigmoid(),
        )
        # Most of a volume is dark: from 0.5, learning would overshoot into a flat sigmoid.
        nn.init.constant_(self.deep[-2].bias, _DARK)  # type: ignore[arg-type]

    @property
    def enlargement(self) -> int:
        """Lateral pixels before the final resize per view pixel."""
        return 4

    def enlarged(self, inputs: Tensor) -> Tensor:
        """Return the volume before the final resize, of views (B, A, h, w)."""
        x = self.flat(inputs.contiguous(memory_format=torch.channels_last))
        x = x.unflatten(1, (_CHANNELS, self.n_depths))
        volume: Tensor = self.deep(x.contiguous(memory_format=torch.channels_last_3d))
        return volume

    def peak_values(self, n_depths: int) -> float:
        """Return how many numbers are held at once per view pixel (measured)."""
        return 400.0 * n_depths
