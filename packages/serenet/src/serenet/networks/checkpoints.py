"""Networks by name, and their checkpoints: this project's own and the published ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from optics import LightFieldMicroscope
from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from serenet.networks.base import LearnedOptics, Network
from serenet.networks.published_names import MODELS, vsnet_args
from serenet.networks.shipped import checkpoint_file, shipped_weights

_PARALLEL = "module."  # from DataParallel
_OWN_FORMAT = "serenet checkpoint 1"
_NO_CHECKPOINT = (
    "not a checkpoint of a reconstruction network; give one of serenet train, or a published one"
)
# What a network of another name learned: renet is a serenet taught by volumes.
_METHODS = (*(name for name in MODELS if name != "serenetup5"), "renet")


def network_for_scale(lateral_scale: float) -> str:
    """Return the name of the serenet whose enlargement, 4 or 5, is nearer the lateral scale."""
    return "serenetup5" if lateral_scale > 4.5 else "serenet"


def build_model(name: str, **published_args: Any) -> Network:
    """Make a network with random weights.

    Parameters
    ----------
    name
        ``serenet``, ``serenetup5`` (15 x 15 views), ``fserenet``, ``vcdnet``, ``hylfmnet``,
        ``rlnet``, ``vsnet`` or ``twnet``.
    **published_args
        The published constructor arguments. Of the serenet family: ``inChannels``,
        ``negative_slope``, ``usingbias``; ``reset_param`` and ``outChannels`` are accepted and
        change nothing. vcdnet: ``inChannels``, ``outChannels``, ``channels_interp``. hylfmnet:
        ``inChannels``, ``outChannels``. rlnet: ``kernel_size``. vsnet: ``angRes``, ``K``,
        ``n_block``, ``channels``, ``upscale_factor``. twnet: ``channels``.

    Returns
    -------
    Network
        In training mode, on the CPU; `serenet.load_checkpoint` reads one that is trained.

    Raises
    ------
    UserError
        If the name or an argument is unknown.

    References
    ----------
    SeReNet: Lu et al., Nature Methods (2025). VCD-Net: Wang et al., Nature Methods (2021).
    HyLFM-Net: Wagner et al., Nature Methods (2021). RL-Net: Li et al., Nature Methods (2022).

    Examples
    --------
    >>> import serenet
    >>> model = serenet.build_model("serenet", inChannels=49, negative_slope=0.1)
    >>> sum(parameter.numel() for parameter in model.parameters())
    194689
    """
    if name not in MODELS:
        raise UserError(f"unknown model '{name}'; known are {', '.join(MODELS)}")
    try:
        model = MODELS[name].build(**published_args)
    except TypeError as failure:
        raise UserError(f"model '{name}': {failure}") from failure
    except (RuntimeError, MemoryError) as failure:
        raise UserError(f"model '{name}' with {published_args}: too large to be made") from failure
    model.published_name = name
    model.published_args = dict(published_args)
    return model


def load_published_state(model: Network, state_dict: Mapping[str, Tensor]) -> None:
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

    Examples
    --------
    >>> import serenet
    >>> model = serenet.build_model("serenet")
    >>> serenet.load_published_state(model, {})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    scopekit.errors.UserError: these parameters are not those of a serenet: 18 missing ...
    """
    name = str(model.published_name)
    entry = MODELS[name]
    own = {entry.own_name(k.removeprefix(_PARALLEL), name): t for k, t in state_dict.items()}
    _load_state(model, own, name)


def _known_method(method: Any) -> str:
    """Return the method, which names results: no path may hide in it."""
    if method not in _METHODS:
        raise UserError(f"method {method!r} is unknown; known are {', '.join(_METHODS)}")
    return str(method)


def _learned_optics(content: Any) -> LearnedOptics | None:
    """Return the optics of a checkpoint, ``None`` if it holds none."""
    if content is None:
        return None
    try:
        microscope = LightFieldMicroscope.model_validate(content["microscope"])
    except ValidationError as failure:
        raise UserError(f"the optics in it are damaged: {failure.errors()[0]['msg']}") from failure
    shift = content["shift"]
    expected = (len(microscope.views), len(microscope.depths_um), 2)
    if shift is not None and (tuple(shift.shape) != expected or not torch.isfinite(shift).all()):
        raise UserError(f"the PSF shift in it is not {expected} finite numbers")
    return LearnedOptics(microscope, shift)


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
        if state[key].is_floating_point() != tensor.is_floating_point():
            wanted = "real" if tensor.is_floating_point() else "whole"
            raise UserError(
                f"parameter '{key}' of {name} holds {state[key].dtype}, not {wanted} numbers"
            )
        if not torch.isfinite(state[key]).all():
            raise UserError(f"parameter '{key}' of {name} holds NaN or infinite values")
    model.load_state_dict(dict(state))


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> Network:
    """Read a checkpoint, published or this project's own, without running code from it.

    Parameters
    ----------
    path
        A ``.pth`` or ``.pt`` file, or the name of weights that ship, see ``serenet weights``.
    device
        Where to put the model.

    Returns
    -------
    Network
        In evaluation mode, its kernels laid out for speed (channels last).

    Raises
    ------
    UserError
        If the file is missing, damaged, holds code, or is not a checkpoint of a known model.

    Examples
    --------
    >>> import serenet
    >>> model = serenet.load_checkpoint("demo")
    >>> model.method, model.training
    ('serenet', False)
    """
    path = checkpoint_file(path)
    content = read_checkpoint(path, list(shipped_weights()))
    try:
        if isinstance(content, dict) and content.get("format") == _OWN_FORMAT:
            model = build_model(content["name"], **content["args"])
            model.method = _known_method(content.get("method", model.method))
            _load_state(model, content["state"], content["name"])
            model.learned_optics = _learned_optics(content.get("optics"))
        elif isinstance(content, dict) and isinstance(content.get("model"), dict):
            published = content["model"]
            model = build_model(published["name"], **published["args"])
            load_published_state(model, published["sd"])
        elif isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            # So the published vsnet lies.
            state = {k.removeprefix(_PARALLEL): t for k, t in content["state_dict"].items()}
            model = build_model("vsnet", **vsnet_args(state))
            load_published_state(model, state)
        else:
            raise UserError(_NO_CHECKPOINT)
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    except (KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{path}: {_NO_CHECKPOINT}") from failure
    model.eval().to(device=device)
    model.lay_out()
    return model


def checkpoint_content(model: Network) -> dict[str, Any]:
    """Return a model made by `build_model` or `load_checkpoint` as plain tensors and values."""
    optics = model.learned_optics
    known = (
        {}
        if optics is None
        else {
            "optics": {
                "microscope": optics.microscope.model_dump(mode="json"),
                "shift": optics.shift,
            }
        }
    )
    return {
        "format": _OWN_FORMAT,
        "name": model.published_name,
        "args": model.published_args,
        "method": model.method,
        "state": {key: t.detach().cpu().contiguous() for key, t in model.state_dict().items()},
        **known,
    }


def save_checkpoint(path: str | Path, model: Network, *, overwrite: bool = False) -> None:
    """Write a network as this project's checkpoint: plain tensors and plain values.

    Parameters
    ----------
    path
        The ``.pt`` or ``.pth`` to write; it appears when it is whole.
    model
        From `serenet.build_model` or `serenet.load_checkpoint`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If the file exists, or the disk is full.

    Examples
    --------
    >>> import serenet
    >>> serenet.save_checkpoint("mine.pt", serenet.build_model("serenet"))
    >>> serenet.load_checkpoint("mine.pt").method
    'serenet'
    """
    write_checkpoint(Path(path), checkpoint_content(model), overwrite=overwrite)
