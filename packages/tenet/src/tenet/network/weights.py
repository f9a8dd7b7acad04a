"""Checkpoints of JNet on disk: published ones, and those that training leaves."""

from pathlib import Path

import torch
from torch import Tensor

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.training.recipe import Moments
from tenet.config.sections import Params
from tenet.network.jnet import JNet, load_published_state

WEIGHTS = Path(__file__).parents[1] / "shipped"


def model_file(folder: str, name: str) -> Path:
    """Return the file of a model's weights: in ``folder``, else those that ship of that name."""
    path = Path(folder) / f"{name}.pt"
    shipped = WEIGHTS / f"{name}.pt"
    return shipped if not path.exists() and shipped.exists() else path


def checkpoint_file(path_or_name: Path) -> Path:
    """Return a file of weights: the path, or what ships under that name."""
    return path_or_name if path_or_name.suffix else model_file("", path_or_name.name)


def _shipped() -> list[str]:
    """Name the weights of this network that ship."""
    return sorted(path.stem for path in WEIGHTS.glob("*.pt") if path.stem != "alignment")


def moments_file(weights: Path) -> Path:
    """Return where the moments of the optimizer lie that belong to a file of weights."""
    return weights.with_name(f"{weights.stem}_optim.pt")


def load_model(path: Path, params: Params) -> JNet:
    """Read a checkpoint into the model that ``params`` describes, in evaluation mode.

    Raises
    ------
    UserError
        If the file cannot be read, or is of another network.
    """
    content = read_checkpoint(path, _shipped())
    state = content.get("state", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise UserError(f"{path}: not a checkpoint of this network; give one of tenet pretrain")
    model = JNet(params)
    try:
        load_published_state(model, state)
    except UserError as failure:
        raise UserError(f"{path}: {failure}") from failure
    return model.eval()


def read_moments(path: Path) -> Moments | None:
    """Read moments by the parameters' names; ``None`` where the file has no such.

    Published files name parameters by number, those of a state that is not told; they are no use.
    """
    content = read_checkpoint(path)
    moments = content.get("moments") if isinstance(content, dict) else None
    return moments if isinstance(moments, dict) else None


def state_of(model: JNet) -> dict[str, Tensor]:
    """Return a copy of the model's state, on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


def freeze(parameters: list[torch.nn.Parameter]) -> None:
    """Let these parameters stay as they are."""
    for parameter in parameters:
        parameter.requires_grad_(False)
