"""What an interrupted deconvolution leaves, so that the same command goes on from there."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from scopekit.outputs import make_folder, whole_file
from scopekit.progress import say


class SavedSweeps:
    """Finished windows and the last sweep of the current one, kept until the result lands."""

    def __init__(self, result: Path, source: Path, settings: dict[str, Any]) -> None:
        self.folder = result.with_name(f".{result.stem}.state")
        status = source.stat()
        fingerprint = {
            **settings,
            "input": str(source.resolve()),
            "bytes": status.st_size,
            "changed": status.st_mtime_ns,
        }
        self._text = yaml.safe_dump(fingerprint)
        self._stamp = self.folder / "settings.yaml"
        if self._stamp.exists() and self._stamp.read_text(encoding="utf-8") == self._text:
            say(f"{result.name}: going on where an interrupted run stopped")
        else:
            self.remove()

    def save(self, name: str, estimate: Tensor, fits: list[float], *, finished: bool) -> None:
        """Keep an estimate and the deviance of every sweep it has seen."""
        if not self._stamp.exists():
            make_folder(self.folder)
            self._stamp.write_text(self._text, encoding="utf-8")
        path = self.folder / f"{name}.npz"
        with whole_file(path, overwrite=True) as partial, partial.open("wb") as handle:
            np.savez(handle, estimate=estimate.cpu().numpy(), fits=fits, finished=finished)

    def load(self, name: str) -> tuple[Tensor, list[float], bool] | None:
        """Return what was kept under this name."""
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as content:
            fits = [float(fit) for fit in content["fits"]]
            return torch.from_numpy(content["estimate"]), fits, bool(content["finished"])

    def forget_before(self, frame: int) -> None:
        """Forget what was kept of earlier frames, which the series holds by now."""
        for path in self.folder.glob("frame*_window*.npz"):
            if int(path.stem.partition("_")[0].removeprefix("frame")) < frame:
                path.unlink()

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
