"""Checkpoints of JNet on disk: published ones, those that training leaves, and those that ship."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.memory import choose_device
from scopekit.progress import say
from scopekit.settings import shipped_configs
from scopekit.training.recipe import Moments
from tenet.config.files import SHIPPED, Config, as_config, load_config
from tenet.config.sections import Params
from tenet.network.jnet import JNet


def model_file(folder: str, name: str) -> Path:
    """Return the file of a model's weights: in ``folder``, else those that ship of that name."""
    path = Path(folder) / f"{name}.pt"
    shipped = SHIPPED / f"{name}.pt"
    return shipped if not path.exists() and shipped.exists() else path


def weights_file(path_or_name: str | Path) -> Path:
    """Return a file of weights: the path, with ``.pt`` if need be, or what ships under a name."""
    path = Path(path_or_name)
    if path.suffix == ".pt" or path.is_file():
        return path
    if path.name == str(path_or_name):
        return model_file("", path.name)
    beside = path.with_name(f"{path.name}.pt")
    return beside if beside.is_file() else path


def moments_file(weights: Path) -> Path:
    """Return where the moments of the optimizer lie that belong to a file of weights."""
    return weights.with_name(f"{weights.stem}_optim.pt")


def weights_of(config: Config, *, pretrained: bool) -> Path:
    """Return the file of a configuration's pre-trained or fine-tuned weights.

    Raises
    ------
    UserError
        If it is not there.
    """
    path = pretrained_file(config) if pretrained else model_file(_folder(config), config.name)
    if not path.is_file():
        command = "pretrain" if pretrained else "finetune"
        raise UserError(f"{path}: no such file; run tenet {command} {config.name} first")
    return path


def best_weights(config: Config) -> Path:
    """Return the file of a configuration's fine-tuned weights, else of its pre-trained ones.

    Says so where it has to do with the latter.
    """
    try:
        return weights_of(config, pretrained=False)
    except UserError:
        weights = weights_of(config, pretrained=True)
        say(f"{config.name}: no fine-tuned weights; taken are the pre-trained ones, {weights.name}")
        return weights


def pretrained_file(config: Config) -> Path:
    """Return where a configuration's pre-trained weights lie, or would."""
    return model_file(_folder(config), config.pretrained_model)


def _folder(config: Config) -> str:
    loop = config.train_loop or config.pretrain_loop
    return "model" if loop is None else loop.path


def load_model(
    weights: str | Path,
    config: Config | Params | str | Path | None = None,
    *,
    device: str | torch.device = "cpu",
) -> JNet:
    """Read trained weights, in evaluation mode.

    Parameters
    ----------
    weights
        A checkpoint (``.pt``): a published one, or one of ``tenet pretrain`` or ``tenet finetune``;
        or the name of one that ships, such as ``demo_pretrain``.
    config
        What network it is of: a configuration, its path or name, or its section ``params``. By
        default what the checkpoint tells: those of this package do, published ones do not.
    device
        ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.

    Returns
    -------
    JNet
        Ready for `tenet.enhance`.

    Raises
    ------
    UserError
        If the file cannot be read, is of another network, or tells no configuration.

    Examples
    --------
    >>> import tenet
    >>> model = tenet.load_model("demo_pretrain")
    >>> model.params.scale
    4
    """
    path = weights_file(weights)
    content = read_checkpoint(path, _shipped())
    state = content.get("state", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path}: not a checkpoint of this network; give one of tenet pretrain")
    if config is None:
        params = _told_params(path, content)
    elif isinstance(config, Params):
        params = config
    else:
        params = as_config(config).params
    model = JNet(params)
    try:
        load_published_state(model, state)
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    where = choose_device(device) if isinstance(device, str) else device
    return model.eval().to(where)


def _shipped() -> list[str]:
    """Name the weights of this network that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.pt") if path.stem != "alignment")


def _told_params(path: Path, content: Mapping[str, Any]) -> Params:
    """Return the parameters that a checkpoint, or the file of moments beside it, tells."""
    told = content.get("params")
    if told is None and moments_file(path).is_file():
        beside = read_checkpoint(moments_file(path))
        told = beside.get("params") if isinstance(beside, dict) else None
    if told is None and path.parent == SHIPPED:
        # Weights that ship are named NAME_..., after their configuration.
        names = [name for name in shipped_configs("tenet") if path.stem.startswith(f"{name}_")]
        return load_config(shipped_configs("tenet")[names[0]]).params
    if told is None:
        raise UserError(f"{path}: tells no configuration; give it too: its JSON file, or its name")
    try:
        return Params.model_validate_json(json.dumps(told))
    except ValidationError as failure:
        raise UserError(
            f"{path}: tells a configuration that this version does not know; give it too: its JSON "
            "file, or its name"
        ) from failure


def load_published_state(model: JNet, state: Mapping[str, Tensor]) -> None:
    """Fill a model from a published checkpoint's state.

    Parameters
    ----------
    model
        Of the checkpoint's channels and PSF.
    state
        Names to tensors, as `torch.save` stored them.

    Raises
    ------
    UserError
        If names or shapes differ.

    Examples
    --------
    >>> import tenet
    >>> trained = tenet.load_model("demo_pretrain")
    >>> model = tenet.JNet(tenet.load_config("demo").params)
    >>> tenet.load_published_state(model, trained.state_dict())
    """
    own = model.state_dict()
    missing = [name for name in own if name not in state]
    foreign = [name for name in state if name not in own]
    if missing or foreign:
        raise UserError(
            f"the checkpoint is of another network: {len(missing)} names are missing"
            f"{_first(missing)}, {len(foreign)} are unknown{_first(foreign)}; check "
            "hidden_channels_list, nblocks and attn_list"
        )
    for name, tensor in state.items():
        if own[name].shape != tensor.shape:
            raise UserError(
                f"the checkpoint is of another network: {name} is {tuple(tensor.shape)}, here "
                f"{tuple(own[name].shape)}; check hidden_channels_list and mid"
            )
    model.load_state_dict(dict(state))


def _first(names: list[str]) -> str:
    return f" ({names[0]})" if names else ""


def read_moments(path: Path) -> Moments | None:
    """Read moments by the parameters' names; ``None`` where the file has no such.

    Published files name parameters by number, those of a state that is not told; they are no use.
    """
    content = read_checkpoint(path)
    moments = content.get("moments") if isinstance(content, dict) else None
    return moments if isinstance(moments, dict) else None


def checkpoint_of(model: JNet) -> dict[str, Any]:
    """Return a copy of a model's state, on the CPU, and of its parameters, as plain values."""
    state = {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}
    return {"state": state, "params": model.params.model_dump(mode="json")}
