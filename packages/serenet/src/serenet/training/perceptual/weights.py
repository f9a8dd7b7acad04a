"""Pretrained weights on disk, and the images that they were trained on."""

from pathlib import Path
from typing import Any

from torch import Tensor

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError


class ImageNet:
    """Mean and standard deviation of ImageNet, averaged over its colours."""

    mean, std = 0.449, 0.226


def read_weights(path: Path, setting: str) -> Any:
    """Read a state dict, ``.pth``, ``.pt`` or ``.safetensors``; faults name the setting.

    Parameters
    ----------
    path
        The file.
    setting
        Key of the section ``perceptual`` that names it.
    """
    try:
        return _read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    except UserError as failure:
        raise UserError(f"perceptual.{setting}: {failure}") from failure


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise UserError(f"{path}: no such file; give the path of the weights")
    try:
        return load_file(path)
    except SafetensorError as failure:
        raise UserError(
            f"{path}: not a safetensors file, or damaged; download it again"
        ) from failure
