"""One training run in several processes, as torchrun starts them; or in one."""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module

import torch
import torch.distributed as dist

from scopekit.errors import UserError

# The others wait this long at most while the first process validates.
_PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class World:
    """The processes of a run.

    Attributes
    ----------
    rank
        This process, from 0.
    size
        Number of processes.
    device
        Where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the values averaged over all processes."""
        if self.size == 1:
            return dict(values)
        numbers = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(numbers)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))

    def agree(self, value: float) -> float:
        """Return the first process's value in every process."""
        if self.size == 1:
            return value
        number = torch.tensor([value], dtype=torch.float64, device=self.device)
        dist.broadcast(number, src=0)
        return float(number)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def process_group(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started; without torchrun there is only this one.

    Parameters
    ----------
    device
        CPU, or CUDA: then each process takes the card of its number on the machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, device)
        return
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(
                f"{local + 1} processes or more, but {torch.cuda.device_count()} CUDA devices "
                "here: give torchrun a smaller --nproc-per-node"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Defaults of its functions keep the group that there is when they are loaded, as they are by
    # `DistributedDataParallel`: its threads would run on into the end of the interpreter.
    import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), size, device)
    finally:
        gc.collect()  # what is parallel keeps the group as well
        dist.destroy_process_group()
