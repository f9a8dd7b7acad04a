"""The parts of a large frame: how it was cut, and which are finished, whatever kills a run."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scopekit.outputs import describe_write_failure, make_folder, whole_file

_PLAN = "plan.json"


@dataclass(frozen=True)
class FrameParts:
    """What is noted of a frame that is made part by part; any process may finish any part.

    Attributes
    ----------
    folder
        Where it is noted: a file for each part that is finished.
    """

    folder: Path

    def plan(self, make: Callable[[], dict[str, Any]]) -> None:
        """Note how the work is cut, as ``make`` tells, unless an interrupted run has.

        Parts are those of another run only if they are cut alike.
        """
        if not (self.folder / _PLAN).exists():
            noted = make()
            make_folder(self.folder)
            with whole_file(self.folder / _PLAN, overwrite=True) as partial:
                partial.write_text(json.dumps(noted), encoding="utf-8")

    def noted(self) -> dict[str, Any]:
        """Return what is noted of the work."""
        found: dict[str, Any] = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
        return found

    def finished(self) -> set[int]:
        """Return the numbers of the parts that are finished."""
        return {int(path.name) for path in self.folder.glob("*") if path.name.isdigit()}

    def finish(self, part: int) -> None:
        """Mark a part as finished, all of which is written."""
        mark = self.folder / str(part)
        try:
            mark.touch()
        except OSError as failure:
            raise describe_write_failure(mark, failure) from failure
