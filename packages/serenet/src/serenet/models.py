"""Networks by name, and their checkpoints: this project's own and the published ones."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from serenet.networks import FSeReNet, SeReNet
from serenet.shipped import weights_file

_OWN_FORMAT = "serenet checkpoint 1"
_METHODS = ("serenet", "renet", "fserenet")
_MOST_VIEWS = 99**2
_FAMILY_NAMES = (
    (r"fusion\.([0246])\.", lambda i: f"coarse.{i}."),
    (r"fusion\.(9|11)\.", lambda i: f"middle.{i - 9}."),
    (r"fusion\.(14|16|18)\.", lambda i: f"fine.{i - 14}."),
)
_AXIAL_NAMES = (
    *_FAMILY_NAMES[:2],
    (r"decoder\.down_layers\.(\d)\.conv\.0\.", lambda i: f"fine.0.down.{i}.0."),
    (r"decoder\.up_layers\.(\d)\.conv\.0\.", lambda i: f"fine.0.up.{i}.0."),
    (r"final_conv\.(0)\.", lambda i: f"fine.1.{i}."),
)


@dataclass(frozen=True)
class _Entry:
    """How a published model is built, and what its parameters are called here."""

    method: str
    build: Callable[..., SeReNet]
    names: tuple[tuple[str, Callable[[int], str]], ...]


def _family(kind: type[SeReNet], second_up: float) -> Callable[..., SeReNet]:
    def build(
        inChannels: int = 49,  # the published arguments' own names
        negative_slope: float = 0.1,
        usingbias: bool = True,
        reset_param: bool = False,
        outChannels: int = 101,
    ) -> SeReNet:
        # reset_param and outChannels change nothing here.
        if type(inChannels) is not int or not 1 <= inChannels <= _MOST_VIEWS:
            raise UserError(f"inChannels is {inChannels!r}; expected 1 to {_MOST_VIEWS} views")
        if type(negative_slope) not in (int, float) or not math.isfinite(negative_slope):
            raise UserError(f"negative_slope is {negative_slope!r}; expected a number")
        if type(usingbias) is not bool:
            raise UserError(f"usingbias is {usingbias!r}; expected true or false")
        return kind(inChannels, second_up, negative_slope, usingbias)

    return build


_MODELS = {
    "serenet": _Entry("serenet", _family(SeReNet, 2.0), _FAMILY_NAMES),
    "serenetup5": _Entry("serenet", _family(SeReNet, 2.5), _FAMILY_NAMES),
    "fserenet": _Entry("fserenet", _family(FSeReNet, 2.0), _AXIAL_NAMES),
}


def network_for_scale(lateral_scale: float) -> str:
    """Return the name of the serenet whose enlargement, 4 or 5, is nearer the lateral scale."""
    return "serenetup5" if lateral_scale > 4.5 else "serenet"


def build_model(name: str, **published_args: Any) -> SeReNet:
    """Make a network with random weights.

    Parameters
    ----------
    name
        ``serenet``, ``serenetup5`` (15 x 15 views) or ``fserenet``.
    **published_args
        The published constructor arguments: ``inChannels``, ``negative_slope``, ``usingbias``;
        ``reset_param`` and ``outChannels`` are accepted and change nothing.

    Raises
    ------
    UserError
        If the name or an argument is unknown.
    """
    if name not in _MODELS:
        raise UserError(f"unknown model '{name}'; known are {', '.join(_MODELS)}")
    try:
        model = _MODELS[name].build(**published_args)
    except TypeError as failure:
        raise UserError(f"model '{name}': {failure}") from failure
    model.published_name = name
    model.published_args = dict(published_args)
    model.method = _MODELS[name].method
    return model


def load_published_state(model: SeReNet, state_dict: Mapping[str, Tensor]) -> None:
    """Fill a model made by `build_model` from parameters under their published names.

    Parameters
    ----------
    model
        The network to fill, in place.
    state_dict
        Published names to tensors; a ``module.`` prefix (DataParallel) is ignored.

    Raises
    ------
    UserError
        If a parameter is missing, unknown, or of another shape.
    """
    name = str(model.published_name)
    own = {_own_name(key.removeprefix("module."), name): t for key, t in state_dict.items()}
    _load_state(model, own, name)


def _known_method(method: Any) -> str:
    """Return the method, which names results: no path may hide in it."""
    if method not in _METHODS:
        raise UserError(f"method {method!r} is unknown; known are {', '.join(_METHODS)}")
    return str(method)


def _own_name(published: str, model_name: str) -> str:
    for pattern, rename in _MODELS[model_name].names:
        match = re.match(pattern, published)
        if match:
            return rename(int(match[1])) + published[match.end() :]
    raise UserError(f"parameter '{published}' does not belong to a {model_name}")


def _load_state(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    expected = model.state_dict()
    missing, unknown = (
        sorted(expected.keys() - state.keys()),
        sorted(state.keys() - expected.keys()),
    )
    if missing or unknown:
        raise UserError(
            f"these parameters are not those of a {name}: "
            f"{len(missing)} missing {missing[:2]}, {len(unknown)} unknown {unknown[:2]}"
        )
    for key, tensor in expected.items():
        if not isinstance(state[key], Tensor) or state[key].shape != tensor.shape:
            found = tuple(getattr(state[key], "shape", ()))
            raise UserError(f"parameter '{key}' of {name}: {found}, expected {tuple(tensor.shape)}")
        if not state[key].is_floating_point():
            raise UserError(
                f"parameter '{key}' of {name} holds {state[key].dtype}, not real numbers"
            )
        if not torch.isfinite(state[key]).all():
            raise UserError(f"parameter '{key}' of {name} holds NaN or infinite values")
    model.load_state_dict(dict(state))


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> SeReNet:
    """Read a checkpoint, published or this project's own, without running code from it.

    Parameters
    ----------
    path
        A ``.pth`` or ``.pt`` file, or the name of weights that ship, see ``serenet weights``.
    device
        Where to put the model.

    Returns
    -------
    SeReNet
        In evaluation mode, its 3D weights laid out for speed (channels last).

    Raises
    ------
    UserError
        If the file is missing, damaged, holds code, or is not a checkpoint of a known model.
    """
    path = weights_file(str(path)) or Path(path)
    content = read_checkpoint(path)
    try:
        if isinstance(content, dict) and content.get("format") == _OWN_FORMAT:
            model = build_model(content["name"], **content["args"])
            model.method = _known_method(content.get("method", model.method))
            _load_state(model, content["state"], content["name"])
        elif isinstance(content, dict) and isinstance(content.get("model"), dict):
            published = content["model"]
            model = build_model(published["name"], **published["args"])
            load_published_state(model, published["sd"])
        else:
            raise UserError("not a checkpoint of a reconstruction network")
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    except (KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{path}: not a checkpoint of a reconstruction network") from failure
    model.eval().to(device=device)
    model.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return model


def checkpoint_content(model: SeReNet) -> dict[str, Any]:
    """Return a model made by `build_model` or `load_checkpoint` as plain tensors and values."""
    return {
        "format": _OWN_FORMAT,
        "name": model.published_name,
        "args": model.published_args,
        "method": model.method,
        "state": {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()},
    }


def save_checkpoint(path: str | Path, model: SeReNet, *, overwrite: bool = False) -> None:
    """Write a model made by `build_model` or `load_checkpoint` as this project's checkpoint."""
    write_checkpoint(Path(path), checkpoint_content(model), overwrite=overwrite)
