"""How much memory a piece of work may take, and on which device it runs."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from scopekit.errors import Page, UserError

GB = 1e9
# Share of the free memory taken when the user names no budget: the rest is for everybody else.
_SHARE_OF_FREE = 0.8
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_LARGE_BLOCK = 4 * 2**20
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}  # of SLURM
_GROUPS = Path("/sys/fs/cgroup")
# Where limits are told: files of control groups, and which of the two kinds.
_GROUP_FILES = {
    2: ("memory.max", "memory.current", "inactive_file"),
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}

# What this process was given of the machine, as a cluster's worker is.
_share: float = math.inf


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
        The budget in GB (1e9 bytes); ``None`` adds 80 % of what is free now, on the CPU within the
        limits of ``ulimit -v``, of control groups (containers), and of a SLURM job.

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
        free = int(
            min(
                psutil.virtual_memory().available,
                _address_space() - held.vms,
                min(_share, _slurm_memory(os.environ)) - used,
                _free_in_groups(),
            )
        )
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


def take_share(n_bytes: float) -> None:
    """Let this process plan with no more memory than this in all, such as a worker's part."""
    global _share
    _share = n_bytes


def _slurm_memory(environment: Mapping[str, str]) -> float:
    """Return the memory of a SLURM job on this node in bytes, infinite without one."""
    per_node = _slurm_bytes(environment.get("SLURM_MEM_PER_NODE", ""))
    if per_node < math.inf:
        return per_node
    cpus = environment.get("SLURM_CPUS_ON_NODE", "")
    per_cpu = _slurm_bytes(environment.get("SLURM_MEM_PER_CPU", ""))
    return per_cpu * int(cpus) if cpus.isdigit() and int(cpus) else math.inf


def _slurm_bytes(text: str) -> float:
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "M")
    # 0 is all that the node has.
    return int(number) * _UNITS[unit] if number.isdigit() and int(number) else math.inf


def _free_in_groups(proc: Path = Path("/proc/self/cgroup"), root: Path = _GROUPS) -> float:
    """Return how many bytes the control groups of this process (Linux) leave free."""
    try:
        lines = proc.read_text(encoding="utf-8").splitlines()
    except OSError:
        return math.inf
    return min((_free_in_group(*found) for found in _groups(lines, root)), default=math.inf)


def _groups(lines: list[str], root: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folder of every memory group, and of those around it, with the kind, 1 or 2."""
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        kind, top = (1, root / "memory") if controllers else (2, root)
        # In a container the name may be that of the machine outside: only the top is there.
        folder = top / name.strip("/")
        yield top, kind
        while folder != top and top in folder.parents:
            yield folder, kind
            folder = folder.parent


def _free_in_group(folder: Path, kind: int) -> float:
    limit_file, usage_file, reclaimable = _GROUP_FILES[kind]
    with suppress(OSError, ValueError):
        limit = (folder / limit_file).read_text(encoding="utf-8").strip()
        if limit != "max":
            usage = int((folder / usage_file).read_text(encoding="utf-8"))
            entries = (folder / "memory.stat").read_text(encoding="utf-8").splitlines()
            cached = next(
                (int(e.split()[1]) for e in entries if e.startswith(f"{reclaimable} ")), 0
            )
            return int(limit) - usage + cached
    return math.inf


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
