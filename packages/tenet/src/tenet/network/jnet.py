"""JNet: structure and brightness of a two-photon stack, and the image that they explain."""

from typing import Self, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tenet.config.sections import Params
from tenet.microscope.imaging import Microscope
from tenet.microscope.model import ImagingModel
from tenet.network.unet import Head, RecursiveLayer, ResidualBlock, Tail, blocks

_HILL_POWER = 0.5
_HILL_HALF = 1.0
_REVIVED = 0.02


class Output(TypedDict):
    """What JNet returns; volumes are (B, 1, Z, Y, X)."""

    enhanced_image: Tensor
    estim_luminance: Tensor
    reconstruction: Tensor
    poisson_weight: Tensor
    gaussian_sigma: Tensor
    quantized_loss: Tensor | None
    psf_loss: Tensor | None


def hill(image: Tensor) -> Tensor:
    """Return ``(k^n + 1) x^n / (k^n + x^n)``, n = 0.5, k = 1: lifts the dark of an image in [0, 1].

    Negative values count as 0.
    """
    power: Tensor = image.clamp(min=0) ** _HILL_POWER
    half = _HILL_HALF**_HILL_POWER
    lifted: Tensor = (half + 1) * power / (half + power)
    return lifted


def quantise(structure: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return ``structure >= threshold`` with the gradient of ``structure``, and the VQ loss.

    The loss is the mean squared difference of the two; its gradient is that of ``structure``.
    """
    binary = (structure.detach() >= threshold).to(structure.dtype)
    loss = F.mse_loss(structure, binary)
    return binary + (structure - structure.detach()), loss


class JNet(nn.Module):
    """A U-Net for structure and brightness, and a differentiable microscope.

    Parameters
    ----------
    params
        Section ``params`` of a configuration.

    Notes
    -----
    Parameters are named as in published checkpoints. The neural PSF starts random: fit it with
    ``model.image.fit``, or load a checkpoint. Recordings go through `tenet.enhance`, which scales
    them, applies `hill`, and works in chunks; the model itself wants what `hill` returned.

    Examples
    --------
    >>> import tenet, torch
    >>> from tenet.network.jnet import hill
    >>> model = tenet.JNet(tenet.load_config("demo").params).eval()
    >>> with torch.no_grad():
    ...     out = model(hill(torch.rand(1, 1, 6, 16, 16)))
    >>> out["enhanced_image"].shape
    torch.Size([1, 1, 24, 16, 16])
    """

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params
        channels, keep = params.hidden_channels_list, not params.checkpointing
        attention = params.attn_list or (False,) * len(channels)
        row = (params.nblocks, channels[0], params.dropout)
        self.a = nn.Parameter(torch.logit(torch.tensor(params.poisson_weight)))
        self.sigma = nn.Parameter(torch.logit(torch.tensor(params.sig_eps)))
        self.prev0 = Head(channels[0])
        self.prev = nn.Sequential(*blocks(*row, keep=keep))
        self.mid: nn.Module = nn.Identity()
        if params.levels:
            self.mid = RecursiveLayer(
                channels, attention[1:], params.nblocks, params.dropout, keep=keep
            )
        self.postx = nn.Sequential(*blocks(*row, keep=keep), Tail(channels[0]))
        self.postz = nn.Sequential(*blocks(*row, keep=keep), Tail(channels[0]))
        self.image = ImagingModel(params)
        self._frozen: list[nn.BatchNorm3d] = []

    def train(self, mode: bool = True) -> Self:
        """Set the mode; normalisations that were frozen stay in evaluation mode."""
        super().train(mode)
        for norm in self._frozen:
            norm.eval()
        return self

    def forward(self, image: Tensor) -> Output:
        """Explain an image.

        Parameters
        ----------
        image
            (B, 1, Z, Y, X), in [0, 1], after `hill`; of any size.
        """
        structure, brightness = self.enhance(image)
        params = self.params
        enhanced, quantised_loss = structure, None
        if params.apply_vq:
            binary, quantised_loss = quantise(structure, params.threshold)
            if params.use_x_quantized:
                enhanced = binary
        reconstruction, psf_loss = enhanced, None
        if params.reconstruct:
            section = self.image.section()
            reconstruction = self.image(enhanced * brightness, section).clamp(0, 1)
            psf_loss = (section - self.image.analytic).square().mean()
        return {
            "enhanced_image": enhanced,
            "estim_luminance": brightness,
            "reconstruction": reconstruction,
            "poisson_weight": torch.sigmoid(self.a),
            "gaussian_sigma": torch.sigmoid(self.sigma),
            "quantized_loss": quantised_loss,
            "psf_loss": psf_loss,
        }

    def enhance(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return structure and brightness, (B, 1, scale Z, Y, X), both in [0, 1]."""
        features = self.features(image)
        depth = image.shape[2] * self.image.scale
        structure, brightness = (
            torch.sigmoid(tail(features)[:, :, :depth, : image.shape[3], : image.shape[4]])
            for tail in (self.postx, self.postz)
        )
        return structure, brightness

    def features(self, image: Tensor) -> Tensor:
        """Return what both tails start from, (B, C, ...), padded to what the levels halve."""
        if self.image.scale > 1:
            size = (image.shape[2] * self.image.scale, *image.shape[3:])
            image = F.interpolate(image, size=size, mode="trilinear", align_corners=False)
        multiple = 2**self.params.levels
        margin = [part for n in reversed(image.shape[2:]) for part in (0, -n % multiple)]
        if any(margin):
            image = F.pad(image, margin, mode="replicate")
        features: Tensor = self.mid(self.prev(self.prev0(image)))
        return features

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.a.device

    @property
    def recorded_voxel_um(self) -> tuple[float, float, float]:
        """The (z, y, x) step of the recordings that the configuration is for, um."""
        lateral = self.params.res_lateral
        return self.params.res_axial, lateral, lateral

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """The (z, y, x) step of what is made of those, um."""
        axial, y, x = self.recorded_voxel_um
        return axial / self.image.scale, y, x

    def microscope(self, *, noisy: bool = True) -> Microscope:
        """Return the microscope inside, as it is now: neural PSF and noise."""
        training = self.image.training
        with torch.no_grad():
            section = self.image.eval().section().clone()
            a, sigma = (torch.sigmoid(p).clone() for p in (self.a, self.sigma))
        self.image.train(training)
        return Microscope(self.image, section, a, sigma, noisy)

    def imaging_parameters(self) -> list[nn.Parameter]:
        """Return the learnable parameters of the microscope: neural PSF and noise."""
        return [self.a, self.sigma, *self.image.blur.parameters()]

    def network_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters of the U-Net by name."""
        parts = ("prev0.", "prev.", "mid.", "postx.", "postz.")
        return {name: p for name, p in self.named_parameters() if name.startswith(parts)}

    def freeze_microscope(self) -> None:
        """Let neural PSF and noise stay as they are in training."""
        for parameter in self.imaging_parameters():
            parameter.requires_grad_(False)

    def normalise_by_groups(self) -> None:
        """Normalise by groups of channels in training, see `tenet.network.group_normalisation`."""
        self._set_normalisation(by_groups=True)

    def freeze_normalisation(self) -> None:
        """Normalise by the statistics that are there, in training too; it drops nothing then.

        Statistics of the few crops of a batch are noise, and their running means another network.
        """
        self._set_normalisation(by_groups=False)

    def _set_normalisation(self, *, by_groups: bool) -> None:
        norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm3d)]
        self._frozen = [] if by_groups else norms
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.by_groups = by_groups
        self.train(self.training)

    def revive_brightness(self) -> None:
        """Let the brightness start from the middle, where its sigmoid has a gradient."""
        last = self.postz[-1]
        assert isinstance(last, Tail)
        with torch.no_grad():
            last.conv.weight.mul_(_REVIVED)
            if last.conv.bias is not None:
                last.conv.bias.zero_()

    def freeze_network(self) -> None:
        """Let the U-Net stay as it is in training."""
        for parameter in self.network_parameters().values():
            parameter.requires_grad_(False)
