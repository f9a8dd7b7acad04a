"""Aligning z-stacks whose slices are displaced sideways.

What can be known: how a slice lies between its neighbours. What cannot: a shift of the whole stack;
and its drift, for a stack that drifts evenly looks exactly like one of structure that slants. So
aligning takes away what jumps from slice to slice, and leaves the mean and the linear trend over
z as recorded, unless the drift is known to be none of the structure's.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation
from torch import Tensor

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.vibration import shift_slices

SHIPPED = Path(__file__).parents[1] / "shipped" / "alignment.pt"
_PER_PIXEL = 20  # the correlation is refined to this part of a pixel


def align(
    stack: Tensor, model: DeepAlignNet | None, *, remove_drift: bool = False
) -> tuple[Tensor, Tensor]:
    """Align the slices of stacks by resampling, bilinearly.

    Parameters
    ----------
    stack
        (B, 1, Z, Y, X).
    model
        Estimates the shifts; ``None``: `correlate_neighbours` does.
    remove_drift
        Take away the linear trend over z too: straightens slanting structure as well.

    Returns
    -------
    aligned : Tensor
        (B, 1, Z, Y, X).
    shifts : Tensor
        (B, Z, 2), pixels: what was taken away, along y and x.
    """
    with torch.no_grad():
        if model is not None:
            shifts = model(stack)[-1]
        else:
            found = [correlate_neighbours(s[0].cpu().numpy()) for s in stack]
            shifts = torch.from_numpy(np.stack(found)).to(stack)
        shifts = shifts if remove_drift else remove_trend(shifts)
        return shift_slices(stack, -shifts), shifts


def remove_trend(shifts: Tensor) -> Tensor:
    """Take the mean and the linear trend over the slices from shifts (..., Z, 2)."""
    slices = shifts.shape[-2]
    t = torch.arange(slices, dtype=shifts.dtype, device=shifts.device)[:, None] - (slices - 1) / 2
    slope = (t * shifts).sum(dim=-2, keepdim=True) / t.square().sum().clamp(min=1)
    return shifts - shifts.mean(dim=-2, keepdim=True) - t * slope


def correlate_neighbours(stack: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate the shifts of a stack's slices by correlating each with the one before.

    The cross-correlation is not whitened as in phase correlation proper: that amplifies noise,
    of which blurred slices hold nothing else at high frequencies.

    Parameters
    ----------
    stack
        (Z, Y, X).

    Returns
    -------
    ndarray
        (Z, 2), pixels along y and x, their mean 0.
    """
    steps = [np.zeros(2)]
    for previous, current in pairwise(stack):
        step = np.zeros(2)
        if np.ptp(previous) and np.ptp(current):  # else nothing tells
            step, *_ = phase_cross_correlation(
                current, previous, upsample_factor=_PER_PIXEL, normalization=None
            )
        steps.append(step)
    shifts = np.cumsum(steps, axis=0)
    centred: NDArray[np.float32] = (shifts - shifts.mean(axis=0)).astype(np.float32)
    return centred


def load_alignment(path: Path = SHIPPED, device: torch.device | str = "cpu") -> DeepAlignNet:
    """Return a trained alignment network, in evaluation mode; by default the one that ships.

    Raises
    ------
    UserError
        If the file is missing, damaged, or holds something else.
    """
    content = read_checkpoint(path)
    if content.get("network") != "alignment":
        raise UserError(f"{path}: not an alignment network; give one trained by tenet")
    model = DeepAlignNet(**content["arguments"])
    model.load_state_dict(content["state"])
    return model.to(device).eval()


def alignment_content(model: DeepAlignNet) -> dict[str, object]:
    """Return a network as `load_alignment` reads it: plain tensors and values."""
    arguments = {"channels": model.channels, "features": model.features}
    return {"network": "alignment", "arguments": arguments, "state": model.state_dict()}
