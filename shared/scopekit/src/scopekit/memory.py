"""How much memory a piece of work may take, and on which device it runs."""

import ctypes
import math
import sys
from dataclasses import dataclass

import psutil
import torch

from scopekit.errors import Page, UserError

GB = 1e9
# Share of the free memory taken when the user names no budget: the rest is for everybody else.
_SHARE_OF_FREE = 0.8
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGE_BLOCK = 4 * 2**20


def choose_device(name: str) -> torch.device:
    """Return the device called ``auto``, ``cpu``, ``cuda`` or ``mps``; ``auto`` prefers CUDA.

    ``mps``, the GPU of Apple's computers, must be asked for: it has no float64, and results are not
    those of the other devices to the last digit.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "`device=cuda`: PyTorch finds no CUDA device here; use `device=cpu`, or install the "
            "CUDA build of PyTorch (pytorch.org, 'Get started')",
            page=Page.commands,
        )
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "`device=mps`: PyTorch finds no Apple GPU here; use `device=cpu`, or `device=auto`",
            page=Page.commands,
        )
    return torch.device(name)


def float64_device(values: torch.Tensor) -> torch.device:
    """Return where to compute in float64 what belongs to ``values``: there, or on the CPU.

    Apple's GPU has no float64.
    """
    return torch.device("cpu") if values.device.type == "mps" else values.device


@dataclass(frozen=True)
class MemoryBudget:
    """Bytes that may be allocated on top of what the process already holds.

    Attributes
    ----------
    available
        Bytes still to be had for the work itself.
    total
        The budget as the user sees it, in bytes: the peak of the whole process on the CPU, of
        the device's memory on CUDA.
    """

    available: int
    total: int


def memory_budget(device: torch.device, max_gb: float | None = None) -> MemoryBudget:
    """Return the budget for work on ``device``.

    Parameters
    ----------
    device
        CPU, and MPS, which has the same memory: the budget bounds the resident memory of the whole
        process. CUDA: the memory taken on that device.
    max_gb
        The budget in GB (1e9 bytes); ``None`` adds 80 % of what is free now, and on the CPU within
        the limit of ``ulimit -v``.

    Raises
    ------
    UserError
        If the process already holds as much as the budget.
    """
    if max_gb is not None and not math.isfinite(max_gb):
        raise UserError(f"`max_memory_gb={max_gb}`: give a number of GB")
    if device.type == "cuda":
        used = torch.cuda.memory_allocated(device)
        # What the allocator keeps of freed memory is free to us.
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - used
    else:
        held = psutil.Process().memory_info()
        used = held.rss
        free = int(min(psutil.virtual_memory().available, _address_space() - held.vms))
    total = used + int(free * _SHARE_OF_FREE) if max_gb is None else int(max_gb * GB)
    if total <= used:
        raise UserError(
            f"`max_memory_gb={total / GB:.2f}`: the program itself holds {used / GB:.2f} GB; "
            "give that and room for the data",
            page=Page.memory,
        )
    return MemoryBudget(available=total - used, total=total)


def _address_space() -> float:
    """Return how many bytes this process may map at most (``ulimit -v``)."""
    if sys.platform == "win32":
        return math.inf
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if limit == resource.RLIM_INFINITY else limit


def to_cpu(values: torch.Tensor) -> torch.Tensor:
    """Copy to the CPU, from CUDA through page-locked memory.

    That is thirty times as fast as without, from the second time on: PyTorch keeps the memory.
    """
    if not values.is_cuda:
        return values.cpu()
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values)


def return_freed_memory() -> None:
    """Make this process give large freed blocks back to the system at once (Linux, glibc).

    The C library keeps them by default and cuts them up, so that a process that works tile by
    tile comes to hold up to a third more than it ever uses.
    """
    _tell_allocator({_M_MMAP_THRESHOLD: _LARGE_BLOCK})


def keep_freed_memory() -> None:
    """Make this process keep freed memory for its next use (Linux, glibc).

    Training allocates the same large blocks in every step: fetching them anew from the system
    took a fifth of the time.
    """
    _tell_allocator({_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: 2**31 - 1})


def _tell_allocator(values: dict[int, int]) -> None:
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            for name, value in values.items():
                library.mallopt(name, value)
