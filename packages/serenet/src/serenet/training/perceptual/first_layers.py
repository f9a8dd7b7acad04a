"""Perceptual distance of grey images by the first one or two convolutions of VGG-16."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scopekit.errors import UserError
from serenet.training.perceptual.weights import ImageNet, read_weights

_CHANNELS = 64  # of VGG-16's first two convolutions
_KIND = "the first one or two convolutions of VGG-16"


class FirstLayers(nn.Module):
    """Mean square difference of VGG-16's first features between images of one channel.

    Both images are normalised, ``(x - 0.449) / 0.226``, and pass the first one or two convolutions,
    each with its ReLU; the first weights are summed over red, green and blue. With the features
    ``f_l`` after convolution l of L::

        distance = 1/L sum_l mean over channels and pixels of (f_l(prediction) - f_l(target))^2

    No parameter is trained. Use `load_first_layers` to make one.

    Parameters
    ----------
    convolutions
        Weight (64, 1 or 3, 3, 3), then (64, 64, 3, 3), with their biases (64).
    """

    def __init__(self, convolutions: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        for weight, bias in convolutions:
            kernel = weight if len(self.convolutions) else weight.sum(dim=1, keepdim=True)
            layer = nn.Conv2d(kernel.shape[1], _CHANNELS, 3, padding=1)
            layer.load_state_dict({"weight": kernel, "bias": bias})
            self.convolutions.append(layer)
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the distance of every image, 0 or more.

        Parameters
        ----------
        prediction
            Images (..., H, W), about 0 to 1. The only argument with a gradient.
        target
            Images of the same shape.

        Returns
        -------
        Tensor
            Distances (...).

        Raises
        ------
        ValueError
            If the shapes differ.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"{tuple(prediction.shape)} and {tuple(target.shape)} differ in shape")
        *leading, height, width = prediction.shape
        x = (prediction.reshape(-1, 1, height, width) - ImageNet.mean) / ImageNet.std
        y = (target.detach().reshape(-1, 1, height, width) - ImageNet.mean) / ImageNet.std
        distances = []
        for convolution in self.convolutions:
            x, y = F.relu(convolution(x)), F.relu(convolution(y))
            distances.append((x.float() - y.float()).square().mean(dim=(1, 2, 3)))
        return torch.stack(distances).mean(dim=0).reshape(leading)


def load_first_layers(path: Path) -> FirstLayers:
    """Read the convolutions of `FirstLayers`.

    Parameters
    ----------
    path
        A state dict, ``.pth``, ``.pt`` or ``.safetensors``, of the first one or two convolutions,
        whatever their names, for one channel or three; or of a whole VGG-16.

    Raises
    ------
    UserError
        If it is missing or holds something else.
    """
    content = read_weights(path, "vgg")
    # Some files hold the state one level deeper.
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    convolutions = _convolutions(state) if isinstance(state, dict) else []
    if not convolutions:
        raise UserError(f"perceptual.vgg: {path}: not {_KIND}, (64, 3, 3, 3) and (64, 64, 3, 3)")
    return FirstLayers(convolutions)


def _convolutions(state: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Return weights and biases of the first convolutions, in the order of the file."""
    found: list[tuple[Tensor, Tensor]] = []
    shapes = ({(_CHANNELS, 1, 3, 3), (_CHANNELS, 3, 3, 3)}, {(_CHANNELS, _CHANNELS, 3, 3)})
    kernels = [n for n, t in state.items() if isinstance(t, Tensor) and t.dim() == 4]
    for name, fitting in zip(kernels, shapes, strict=False):
        weight = state[name]
        bias = state.get(f"{name.removesuffix('weight')}bias")
        if tuple(weight.shape) not in fitting:
            break
        if not isinstance(bias, Tensor) or bias.shape != (_CHANNELS,):
            return []
        if not all(t.is_floating_point() and bool(t.isfinite().all()) for t in (weight, bias)):
            return []
        # Some files hold parameters, which carry a gradient.
        found.append((weight.detach().float(), bias.detach().float()))
    return found
