"""Aligning z-stacks whose slices are displaced sideways.

What can be known: how a slice lies between its neighbours. What cannot: a shift of the whole stack;
and its drift, for a stack that drifts evenly looks exactly like one of structure that slants. So
aligning takes away what jumps from slice to slice, and leaves the mean and the linear trend over
z as recorded, unless the drift is known to be none of the structure's.
"""

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation
from torch import Tensor

from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.progress import say
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.vibration import shift_slices
from tenet.array_kinds import Array, like, to_tensor
from tenet.config.files import Config

SHIPPED = Path(__file__).parents[1] / "shipped" / "alignment.pt"
_PER_PIXEL = 20  # the correlation is refined to this part of a pixel


@overload
def align(
    stack: Tensor,
    model: DeepAlignNet | Literal["shipped"] | None = ...,
    *,
    remove_drift: bool = ...,
) -> tuple[Tensor, Tensor]: ...
@overload
def align(
    stack: NDArray[Any],
    model: DeepAlignNet | Literal["shipped"] | None = ...,
    *,
    remove_drift: bool = ...,
) -> tuple[Array, Array]: ...
def align(
    stack: NDArray[Any] | Tensor,
    model: DeepAlignNet | Literal["shipped"] | None = "shipped",
    *,
    remove_drift: bool = False,
) -> tuple[Array | Tensor, Array | Tensor]:
    """Align the slices of stacks by resampling, bilinearly.

    Parameters
    ----------
    stack
        (Z, Y, X), or several as (B, 1, Z, Y, X), in any unit; at least 16 x 16 pixels.
    model
        Estimates the shifts; by default the network that ships; ``None``: `correlate_neighbours`
        does.
    remove_drift
        Take away the linear trend over z too: straightens slanting structure as well.

    Returns
    -------
    aligned : ndarray or Tensor
        Of the shape of ``stack``, float32.
    shifts : ndarray or Tensor
        (Z, 2), or (B, Z, 2), pixels: what was taken away, along y and x.

    Raises
    ------
    UserError
        If the stack has other axes, or its slices are too small.

    Examples
    --------
    >>> import numpy as np, tenet
    >>> stack = np.random.default_rng(0).random((5, 32, 32))
    >>> aligned, shifts = tenet.align(stack)
    >>> aligned.shape, shifts.shape
    ((5, 32, 32), (5, 2))
    """
    if stack.ndim not in (3, 5):
        raise UserError(f"a stack of shape {tuple(stack.shape)}; allowed: (Z, Y, X)")
    volumes = to_tensor(stack)
    single = volumes.dim() == 3
    volumes = volumes[None, None] if single else volumes
    with torch.no_grad():
        estimate = shipped_alignment() if model == "shipped" else model
        if estimate is not None:
            shifts = estimate.to(volumes.device)(volumes)[-1]
        else:
            found = [correlate_neighbours(s[0].cpu().numpy()) for s in volumes]
            shifts = torch.from_numpy(np.stack(found)).to(volumes)
        shifts = shifts if remove_drift else remove_trend(shifts)
        aligned = shift_slices(volumes, -shifts)
    if single:
        aligned, shifts = aligned[0, 0], shifts[0]
    return like(aligned, stack), like(shifts, stack)


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
    if not isinstance(content, dict) or content.get("network") != "alignment":
        raise UserError(f"{path}: not an alignment network; give one trained by tenet")
    model = DeepAlignNet(**content["arguments"])
    model.load_state_dict(content["state"])
    return model.to(device).eval()


def shipped_alignment() -> DeepAlignNet | None:
    """Return the network that ships; ``None``, with a warning, where its file is missing."""
    if SHIPPED.is_file():
        return load_alignment()
    warnings.warn(
        f"{SHIPPED}: no such file: slices are aligned by correlating neighbours, which leaves more "
        "of the shifts; install tenet again",
        stacklevel=3,
    )
    return None


def alignment_file(config: Config) -> Path:
    """Return where a configuration's own alignment network lies, or would.

    ``<path>/<align_model>.pt``; without that key, ``<path>/<pretrained_model>_align.pt``.
    """
    loop = config.train_loop or config.pretrain_loop
    folder = "model" if loop is None else loop.path
    return Path(folder) / f"{config.align_model or f'{config.pretrained_model}_align'}.pt"


def alignment_of(config: Config) -> DeepAlignNet | None:
    """Return a configuration's own alignment network if it is there, else the one that ships.

    Says which where the configuration names one, and that ``align_params`` has no effect.
    ``None`` as in `shipped_alignment`.
    """
    if config.align_params is not None:
        say(f"{config.name}: align_params has no effect: no published network aligns here")
    path = alignment_file(config)
    if path.is_file():
        try:
            model = load_alignment(path)
        except UserError as failure:
            say(f"{failure}; slices are aligned by the network that ships")
        else:
            say(f"slices are aligned by {path}")
            return model
    elif config.align_model:
        say(f"{path}: no such file; slices are aligned by the network that ships")
    return shipped_alignment()


def alignment_content(model: DeepAlignNet) -> dict[str, object]:
    """Return a network as `load_alignment` reads it: plain tensors and values."""
    arguments = {"channels": model.channels, "features": model.features}
    return {"network": "alignment", "arguments": arguments, "state": model.state_dict()}
