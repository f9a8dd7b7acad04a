"""A dask cluster of two workers, for the tests of commands that spread frames over one."""

import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import os, sys
from pathlib import Path
from distributed import LocalCluster

if __name__ == "__main__":
    options = {"threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(n_workers=2, processes=True, **options) as cluster:
        Path(sys.argv[1] + ".new").write_text(cluster.scheduler_address)
        os.replace(sys.argv[1] + ".new", sys.argv[1])
        sys.stdin.read()
"""
# What a worker does then: the method ends its process, without a word, after its first work.
SPOILT = """
import os
from importlib import import_module
from pathlib import Path
kind = getattr(import_module(module), kind)
whole = getattr(kind, method)
def deadly(self, *arguments, **options):
    whole(self, *arguments, **options)
    Path(died).touch()
    os.kill(os.getpid(), 9)
setattr(kind, method, deadly)
"""


class Cluster:
    """Two workers in processes of their own.

    Attributes
    ----------
    address
        The scheduler's.
    """

    def __init__(self, folder: Path) -> None:
        script, address = folder / "cluster.py", folder / "address"
        script.write_text(SCRIPT)
        self._process = subprocess.Popen(
            [sys.executable, script, address], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        give_up = time.monotonic() + 180
        while not address.exists() and time.monotonic() < give_up:
            time.sleep(0.1)
        self.address = address.read_text()

    def spoil(self, module: str, kind: str, method: str, died: Path) -> None:
        """Let a worker die when a method has done its first work; ``died`` tells that it has."""
        from distributed import Client

        names = {"module": module, "kind": kind, "method": method, "died": str(died)}
        with Client(self.address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
            client.wait_for_workers(2)
            workers = list(client.scheduler_info(n_workers=-1)["workers"])
            client.run(exec, SPOILT, names, workers=workers[:1])

    def close(self) -> None:
        """End all."""
        self._process.communicate(timeout=120)
