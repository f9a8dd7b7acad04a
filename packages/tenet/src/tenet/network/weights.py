"""Checkpoints of JNet on disk: published ones, those that training leaves, and those that ship."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
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

# Buffers that published fine-tuning with EWC adds for every parameter.
_MEAN, _FISHER = "_estimated_mean", "_estimated_fisher"


@dataclass(frozen=True)
class Consolidation:
    """What published fine-tuning with elastic weight consolidation leaves in its checkpoint.

    Attributes
    ----------
    means, fisher
        Names of parameters to the values that they were held near, and how firmly: the diagonal
        of the Fisher information.
    """

    means: dict[str, Tensor]
    fisher: dict[str, Tensor]


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
        found, trained = model_file("", path.name), Path("model", f"{path.name}.pt")
        if found.parent == SHIPPED and trained.is_file():
            say(f"{path}: the weights that ship are taken; those trained here are {trained}")
        return found
    beside = path.with_name(f"{path.name}.pt")
    return beside if beside.is_file() else path


def moments_file(weights: Path) -> Path:
    """Return where the moments of the optimizer lie that belong to a file of weights."""
    return weights.with_name(f"{weights.stem}_optim.pt")


def weights_of(config: Config, *, pretrained: bool, fold: str | None = None) -> Path:
    """Return the file of a configuration's pre-trained weights, or those fine-tuned (on a fold).

    Raises
    ------
    UserError
        If it is not there.
    """
    name = tuned_name(config, fold)
    path = pretrained_file(config) if pretrained else model_file(_folder(config), name)
    if not path.is_file():
        command = "pretrain" if pretrained else "finetune"
        of_fold = "" if pretrained or not fold else f" on fold {fold}"
        raise UserError(f"{path}: no such file; run tenet {command} {config.name}{of_fold} first")
    return path


def tuned_name(config: Config, fold: str | None = None) -> str:
    """Return the stem of a configuration's fine-tuned weights: its name, ``_cv_K`` for a fold."""
    return f"{config.name}_cv_{fold}" if fold else config.name


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
    content, state = _read(path)
    if config is None:
        params = _told_params(path, content)
    elif isinstance(config, Params):
        params = config
    else:
        params = as_config(config).params
    return _filled(path, params, state, device)


def load_evaluated(
    weights: Path, config: Config, *, threshold: float | None = None, device: str = "cpu"
) -> JNet:
    """Read weights of a configuration to measure what they find, see `load_model`.

    Fine-tuned ones quantise the structure before it is imaged again, as when they were trained, see
    `quantising`; says so where the configuration says otherwise. Weights count as fine-tuned if
    they have the name that fine-tuning gives them, if the file beside them says that they
    quantise, or if they hold a `Consolidation`.

    Parameters
    ----------
    weights
        The file.
    config
        The configuration.
    threshold
        From where on structure is quantised; by default as the configuration says.
    device
        See `load_model`.
    """
    content, state = _read(weights)
    params = config.params
    if _is_finetuned(weights, config, content, state):
        params = quantising(params, weights.name)
    if threshold is not None:
        params = params.model_copy(update={"threshold": threshold})
    return _filled(weights, params, state, device)


def quantising(params: Params, what: str) -> Params:
    """Return parameters with ``apply_vq`` and ``use_x_quantized``, whatever they say.

    So does published fine-tuning, and published inference with fine-tuned weights. Says so, in the
    name of ``what``, where it changes anything.
    """
    if not (params.apply_vq and params.use_x_quantized):
        say(
            f"{what}: the structure is quantised, as in published fine-tuning: apply_vq and "
            "use_x_quantized count as true"
        )
    return params.model_copy(update={"apply_vq": True, "use_x_quantized": True})


def _is_finetuned(
    weights: Path, config: Config, content: Mapping[str, Any], state: Mapping[str, Tensor]
) -> bool:
    if weights.stem == config.pretrained_model:
        return False
    if weights.stem == config.name or weights.stem.startswith(f"{config.name}_cv_"):
        return True
    if any(name.endswith((_MEAN, _FISHER)) for name in state):
        return True
    told = _told_beside(weights, content)
    return told is not None and bool(told.get("use_x_quantized"))


def _read(path: Path) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """Return the content of a checkpoint, and the state in it."""
    content = read_checkpoint(path, shipped_weights())
    if isinstance(content, dict) and isinstance(content.get("method"), str):
        raise UserError(
            f"{path}: a network of serenet ({content['method']}), for light fields; give one of "
            "tenet pretrain"
        )
    state = content.get("state", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path}: not a checkpoint of this network; give one of tenet pretrain")
    return content, state


def _filled(
    path: Path, params: Params, state: Mapping[str, Tensor], device: str | torch.device
) -> JNet:
    model = JNet(params)
    try:
        load_published_state(model, state)
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    where = choose_device(device) if isinstance(device, str) else device
    return model.eval().to(where)


def shipped_weights() -> list[str]:
    """Name the weights of this network that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.pt") if path.stem != "alignment")


def _told_params(path: Path, content: Mapping[str, Any]) -> Params:
    """Return the parameters that a checkpoint, or the file of moments beside it, tells."""
    told = _told_beside(path, content)
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


def _told_beside(path: Path, content: Mapping[str, Any]) -> Mapping[str, Any] | None:
    told = content.get("params")
    if told is None and moments_file(path).is_file():
        beside = read_checkpoint(moments_file(path))
        told = beside.get("params") if isinstance(beside, dict) else None
    return told if isinstance(told, dict) else None


def load_published_state(model: JNet, state: Mapping[str, Tensor]) -> None:
    """Fill a model from a published checkpoint's state.

    Parameters
    ----------
    model
        Of the checkpoint's channels and PSF.
    state
        Names to tensors, as `torch.save` stored them. What fine-tuning with EWC adds, see
        `Consolidation`, is left out.

    Raises
    ------
    UserError
        If names or shapes differ, or values are not finite.

    Examples
    --------
    >>> import tenet
    >>> trained = tenet.load_model("demo_pretrain")
    >>> model = tenet.JNet(tenet.load_config("demo").params)
    >>> tenet.load_published_state(model, trained.state_dict())
    """
    own = model.state_dict()
    added = {name for pair in _buffers(model).values() for names in pair for name in names}
    state = {name: tensor for name, tensor in state.items() if name not in added}
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
        if not torch.isfinite(tensor).all():
            raise UserError(f"{name} holds NaN or infinite values; give weights of another epoch")
    model.load_state_dict(state)


def read_consolidation(path: Path, model: JNet) -> Consolidation | None:
    """Return what a checkpoint of published fine-tuning keeps for EWC; ``None`` if it does not.

    Raises
    ------
    UserError
        If it keeps it for some parameters of the network only, or in another shape.
    """
    _, state = _read(path)
    means: dict[str, Tensor] = {}
    fisher: dict[str, Tensor] = {}
    network = model.network_parameters()
    for name, pair in _buffers(model).items():
        for names, found in zip(pair, (means, fisher), strict=True):
            kept = next((state[written] for written in names if written in state), None)
            if kept is None or name not in network:
                continue
            if kept.shape != network[name].shape:
                raise UserError(
                    f"{path}: what it keeps for EWC of {name} is {tuple(kept.shape)}, not "
                    f"{tuple(network[name].shape)}; it is of another network"
                )
            found[name] = kept.to(model.device)
    if not means and not fisher:
        return None
    lost = [name for name in network if name not in means or name not in fisher]
    if lost:
        raise UserError(f"{path}: keeps nothing for EWC of {lost[0]}; estimate it anew")
    return Consolidation(means, fisher)


def _buffers(model: JNet) -> dict[str, tuple[list[str], list[str]]]:
    """Return how the mean and the Fisher information of each parameter may be called.

    Buffers cannot have a dot in their name; what stands for it is not told.
    """
    found = {}
    for name, _ in model.named_parameters():
        written = dict.fromkeys([name, name.replace(".", "__"), name.replace(".", "_")])
        found[name] = ([n + _MEAN for n in written], [n + _FISHER for n in written])
    return found


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
