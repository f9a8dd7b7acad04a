"""Checkpoint files: plain tensors and plain values, read without running code."""

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from scopekit.errors import UserError
from scopekit.outputs import whole_file


def read_checkpoint(path: Path, shipped: Sequence[str] = ()) -> Any:
    """Read a file written by ``torch.save``, refusing anything but plain tensors and values.

    Parameters
    ----------
    path
        A ``.pt`` or ``.pth`` file.
    shipped
        Names of weights that could have been given in its place.

    Raises
    ------
    UserError
        If the file is missing, damaged, not a PyTorch file, or holds code.
    """
    if not path.is_file():
        names = f", or weights that ship: {', '.join(shipped)}" if shipped else ""
        raise UserError(f"{path}: no such file; give the checkpoint's path{names}")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as failure:  # damaged files make the unpickler raise errors of any kind
        # The unpickler's word for a class or function that is no tensor.
        if "GLOBAL" in str(failure):
            raise UserError(
                f"{path}: holds Python objects that could run code, not only tensors; it was not "
                "opened. Save it again as a dict of tensors and numbers (torch.save)"
            ) from failure
        raise UserError(
            f"{path}: not a PyTorch file, or damaged; download or export it again"
        ) from failure


def write_checkpoint(path: Path, content: dict[str, Any], *, overwrite: bool) -> None:
    """Write tensors and plain values so that the file is whole or absent."""
    with whole_file(path, overwrite=overwrite) as partial:
        # torch.save to a file hides the reason of a failed write, such as a full disk.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        partial.write_bytes(buffer.getbuffer())
