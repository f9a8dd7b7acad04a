"""What an interrupted deconvolution leaves, so that the same command goes on from there."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from scopekit.outputs import make_folder, whole_file
from scopekit.progress import say
from serenet.deconvolution.windows import Window


class SavedSweeps:
    """Finished windows and the last sweep of the current one, kept until the result lands.

    Parameters
    ----------
    result
        The volume to be made.
    text
        The run's stamp, see `of_run`.

    Attributes
    ----------
    folder
        Where they are kept.
    """

    def __init__(self, result: Path, text: str) -> None:
        self.folder = result.with_name(f".{result.stem}.state")
        self.text = text
        self._result = result
        self._has_told = False
        self._stamp = self.folder / "settings.yaml"
        self._sweeps = self.folder / "sweeps.txt"

    @classmethod
    def of_run(cls, result: Path, stamp: Mapping[str, Any]) -> "SavedSweeps":
        """Return those of a run that begins: what was left, if by an equal one, or none.

        Parameters
        ----------
        result
            The volume to be made.
        stamp
            What must be equal for a run to go on with the sweeps of another: plain values.
        """
        sweeps = cls(result, yaml.safe_dump(dict(stamp)))
        if sweeps._stamp.exists() and sweeps._stamp.read_text(encoding="utf-8") == sweeps.text:
            say(f"{result.name}: going on where an interrupted run stopped")
        else:
            sweeps.remove()
        return sweeps

    def begin(self) -> None:
        """Make the folder, so that several processes may keep sweeps there."""
        if not self._stamp.exists():
            make_folder(self.folder)
            with whole_file(self._stamp, overwrite=True) as partial:
                partial.write_text(self.text, encoding="utf-8")

    def save(
        self, name: str, window: Window, estimate: Tensor, fits: list[float], *, finished: bool
    ) -> None:
        """Keep a window's estimate and the deviance of every sweep it has seen."""
        self.begin()
        path = self.folder / f"{name}.npz"
        values, bounds = estimate.cpu().numpy(), _bounds(window)
        with whole_file(path, overwrite=True) as partial, partial.open("wb") as handle:
            np.savez(handle, estimate=values, fits=fits, window=bounds, finished=finished)

    def load(self, name: str, window: Window) -> tuple[Tensor, list[float], bool] | None:
        """Return what was kept under this name, ``None`` if nothing was, or of another window.

        The memory that is free decides how the field is cut, and may be another than it was.
        """
        path = self.folder / f"{name}.npz"
        if not path.exists():
            return None
        with np.load(path) as content:
            if content["window"].tolist() != _bounds(window):
                self._tell_of_other_windows()
                return None
            fits = [float(fit) for fit in content["fits"]]
            return torch.from_numpy(content["estimate"]), fits, bool(content["finished"])

    def keep_sweeps(self, count: int) -> None:
        """Keep the number of sweeps that was found to suffice."""
        self.begin()
        with whole_file(self._sweeps, overwrite=True) as partial:
            partial.write_text(str(count), encoding="utf-8")

    def sweeps(self) -> int | None:
        """Return what `keep_sweeps` kept, ``None`` if nothing."""
        return int(self._sweeps.read_text(encoding="utf-8")) if self._sweeps.exists() else None

    def _tell_of_other_windows(self) -> None:
        if not self._has_told:
            say(f"{self._result.name}: the memory allows other windows than before: begun anew")
            self._has_told = True

    def forget(self, frame: int) -> None:
        """Forget what was kept of a frame, which the series holds by now."""
        for path in self.folder.glob(f"frame{frame}_window*.npz"):
            path.unlink()

    def remove(self) -> None:
        """Forget everything."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _bounds(window: Window) -> list[int]:
    """Return the first and last rows and columns of a window, of its views and of what is kept."""
    places = (*window.views, *window.volume, *window.core)
    return [n for place in places for n in (place.start, place.stop)]
