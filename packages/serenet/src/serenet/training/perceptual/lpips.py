"""Perceptual distance of grey images: LPIPS v0.1 on VGG-16 (Zhang et al., CVPR 2018)."""

import importlib.util
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scopekit.errors import UserError
from scopekit.timm_import import import_timm
from serenet.training.perceptual.weights import ImageNet, read_weights

_EPS = 1e-10
# Layers of VGG-16 after which a stage ends: relu1_2, relu2_2, relu3_3, relu4_3, relu5_3.
_STAGE_ENDS = (0, 4, 9, 16, 23, 30)
_STAGE_CHANNELS = [64, 128, 256, 512, 512]
_LINEAR_SHAPES = {f"lin{i}.model.1.weight": (1, c, 1, 1) for i, c in enumerate(_STAGE_CHANNELS)}
# Four poolings leave one pixel of it.
_SMALLEST = 16
_HUB_NAME, _HUB_FILE = "timm/vgg16.tv_in1k", "model.safetensors"
_WITHOUT = "or train without the perceptual term: perceptual.weight: 0"
_OFFLINE = (
    "or compare the first layers, from a small file: perceptual.kind: first_layers, "
    "or train without the perceptual term: perceptual.weight: 0"
)


class LPIPS(nn.Module):
    """Learned perceptual distance between images of one channel.

    Both images are normalised, ``(x - 0.449) / 0.226``, and pass VGG-16, whose first weights are
    summed over red, green and blue. With the features ``f_l`` (channels first) after the last
    ReLU of each of the five stages l, scaled to unit length over the channels,
    ``u_l = f_l / (|f_l| + 1e-10)``, and the weights ``w_l`` of LPIPS v0.1::

        distance = sum_l mean over pixels of sum_c w_lc (u_lc(prediction) - u_lc(target))^2

    No parameter is trained. Use `load_lpips` to make one.

    Parameters
    ----------
    vgg
        Parameters of VGG-16's convolutions under torchvision's names, ``features.0.weight``...
    linear
        Weights under the names of LPIPS, ``lin0.model.1.weight``..., each (1, C, 1, 1).
    """

    weights: Tensor

    def __init__(self, vgg: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        super().__init__()
        layers = _empty_vgg(in_channels=1)
        state = {name: vgg[f"features.{name}"] for name in layers.state_dict()}
        state["0.weight"] = state["0.weight"].sum(dim=1, keepdim=True)
        layers.load_state_dict(state, assign=True)
        self.stages = nn.ModuleList(layers[a:b] for a, b in pairwise(_STAGE_ENDS))
        weights = torch.cat([linear[name].flatten() for name in _LINEAR_SHAPES])
        self.register_buffer("weights", weights)
        self.requires_grad_(False)
        # A fifth faster on the CPU than the contiguous layout, because of the sums over channels.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the distance of every image, 0 or more.

        Parameters
        ----------
        prediction
            Images (..., H, W), about 0 to 1, of 16 x 16 pixels or more. The only argument with a
            gradient.
        target
            Images of the same shape.

        Returns
        -------
        Tensor
            Distances (...), in float32 or more also under autocast.

        Raises
        ------
        ValueError
            If the shapes differ.
        UserError
            If the images are too small.
        """
        if prediction.shape != target.shape:
            raise ValueError(f"{tuple(prediction.shape)} and {tuple(target.shape)} differ in shape")
        *leading, height, width = prediction.shape
        if min(height, width) < _SMALLEST:
            raise UserError(
                f"the perceptual term needs images of {_SMALLEST} x {_SMALLEST} pixels or more, "
                f"not {height} x {width}: use larger crops, {_WITHOUT}"
            )
        x = (prediction.reshape(-1, 1, height, width) - ImageNet.mean) / ImageNet.std
        # Apart from the prediction, not in one batch: so no gradient is computed for it.
        y = (target.detach().reshape(-1, 1, height, width) - ImageNet.mean) / ImageNet.std
        distance = x.new_zeros(len(x), dtype=torch.promote_types(x.dtype, torch.float32))
        weights = torch.split(self.weights, _STAGE_CHANNELS)
        for stage, stage_weights in zip(self.stages, weights, strict=True):
            x, y = stage(x), stage(y)
            distance = distance + _weighted_distance(x, y, stage_weights)
        return distance.reshape(leading)


def _weighted_distance(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted distance (N) of features (N, C, H, W), averaged over the pixels."""
    # Unit vectors and small differences need float32.
    with torch.autocast(x.device.type, enabled=False):
        squares = (_unit(x) - _unit(y)).square()
        distance: Tensor = torch.einsum("nchw,c->n", squares, weights / x[0, 0].numel())
    return distance


def _unit(features: Tensor) -> Tensor:
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    # Unlike a square root, this has a gradient where all features are 0.
    norm: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (norm + _EPS)


def _empty_vgg(in_channels: int) -> nn.Sequential:
    """Return the convolutions, ReLUs and poolings of VGG-16 up to relu5_3, without memory."""
    timm = import_timm()
    with torch.device("meta"):
        model = timm.create_model("vgg16", in_chans=in_channels)
    return nn.Sequential(*model.features[: _STAGE_ENDS[-1]])


def load_lpips(vgg: Path | None = None, linear: Path | None = None) -> LPIPS:
    """Read the pretrained weights of `LPIPS`.

    Parameters
    ----------
    vgg
        VGG-16 trained on ImageNet: a state dict with torchvision's names, ``.pth``, ``.pt`` or
        ``.safetensors``; ``None`` fetches it from the hub (timm's ``vgg16.tv_in1k``), once.
    linear
        Weights of LPIPS v0.1 for VGG as it distributes them (``vgg.pth``); ``None`` takes them
        from the package lpips, if that is installed. None of its code is run.

    Raises
    ------
    UserError
        If weights are missing, cannot be fetched, or are of another kind.
    """
    linear = linear or _installed_linear()
    linear_weights = _pick(read_weights(linear, "linear"), _LINEAR_SHAPES, linear, "linear")
    if any(bool((t < 0).any()) for t in linear_weights.values()):
        raise UserError(f"perceptual.linear: {linear}: has negative weights, unlike LPIPS v0.1")
    expected = _empty_vgg(in_channels=3).state_dict()
    shapes = {f"features.{name}": tuple(t.shape) for name, t in expected.items()}
    vgg = vgg or _fetch_vgg()
    return LPIPS(_pick(read_weights(vgg, "vgg"), shapes, vgg, "vgg"), linear_weights)


def _installed_linear() -> Path:
    package = importlib.util.find_spec("lpips")
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder) / "weights" / "v0.1" / "vgg.pth"
        if path.is_file():
            return path
    raise UserError(
        "perceptual.linear: the weights of LPIPS are needed: pip install --no-deps lpips, or give "
        f"its file weights/v0.1/vgg.pth, {_WITHOUT}"
    )


def _fetch_vgg() -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(_HUB_NAME, _HUB_FILE))
    except MemoryError:
        raise
    except Exception as failure:  # the hub's client raises errors of many kinds
        reason = (str(failure).splitlines() or [type(failure).__name__])[0]
        raise UserError(
            f"perceptual.vgg: the hub's {_HUB_NAME} cannot be fetched ({reason}); give its file "
            f"{_HUB_FILE}, or torchvision's vgg16-397923af.pth, as perceptual.vgg, {_OFFLINE}"
        ) from failure


def _pick(
    state: Any, shapes: Mapping[str, tuple[int, ...]], source: Path, setting: str
) -> dict[str, Tensor]:
    """Return the named tensors of a state dict as float32, refusing what does not fit."""
    kind = {
        "vgg": "VGG-16 weights with torchvision's names",
        "linear": "the weights of LPIPS v0.1 for VGG",
    }[setting]
    for name, shape in shapes.items():
        tensor = state.get(name) if isinstance(state, dict) else None
        if not isinstance(tensor, Tensor):
            problem = f"'{name}' is missing"
        elif tensor.shape != shape:
            problem = f"'{name}' is {tuple(tensor.shape)}, expected {shape}"
        elif not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            problem = f"'{name}' holds more than finite real numbers"
        else:
            continue
        raise UserError(f"perceptual.{setting}: {source}: not {kind}: {problem}")
    # Some files hold parameters, which carry a gradient.
    return {name: state[name].detach().float() for name in shapes}
