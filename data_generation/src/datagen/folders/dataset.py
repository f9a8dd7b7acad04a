"""Folders of numbered items, each whole or absent, continued after a stop.

The resolved settings lie in the folder as ``dataset.yaml``. An item is made of its own number and
the settings alone, so that it is the same whether made alone, with others, or by any worker.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scopekit.errors import UserError
from scopekit.outputs import forget_killed, make_folder, require_space
from scopekit.progress import say
from scopekit.settings import read_yaml, write_yaml

SETTINGS_NAME = "dataset.yaml"


@dataclass(frozen=True)
class Dataset:
    """A folder of items and what they are made from.

    Attributes
    ----------
    folder
        Where the items lie; settings beside them.
    settings
        All that shapes an item, in plain values; a folder holds items of one kind of settings.
    items
        The files of every item. One whose files all exist is complete.
    patterns
        Glob patterns, in the folder, of all files of such datasets: ``--overwrite`` removes them.
    item_bytes
        Size of an item on disk.
    """

    folder: Path
    settings: Mapping[str, Any]
    items: Sequence[Sequence[Path]]
    patterns: Sequence[str]
    item_bytes: int

    def missing(self) -> list[int]:
        """Return the numbers of the items that are not complete."""
        return [i for i, files in enumerate(self.items) if not all(f.exists() for f in files)]

    def open(self, *, overwrite: bool) -> list[int]:
        """Prepare the folder; name the items that exist and return the numbers of the others.

        Raises
        ------
        UserError
            If the folder holds items made with other settings, or if the missing ones do not fit
            on the disk.
        """
        make_folder(self.folder)
        missing = list(range(len(self.items))) if overwrite else self._continued()
        old = [f for p in self.patterns for f in self.folder.glob(p)] if overwrite else []
        freed = sum(file.stat().st_size for file in old)
        require_space(self.folder, len(missing) * self.item_bytes - freed)
        for file in old:
            file.unlink()
        write_yaml(self.folder / SETTINGS_NAME, self.settings, overwrite=True)
        return missing

    def _continued(self) -> list[int]:
        settings = self.folder / SETTINGS_NAME
        if settings.exists():
            require_same_settings(settings, self.settings)
        elif any(True for p in self.patterns for _ in self.folder.glob(p)):
            raise UserError(
                f"{self.folder} holds items of unknown settings ({SETTINGS_NAME} is missing): "
                "choose another `out`, or add `overwrite=True` to replace them"
            )
        missing = self.missing()
        for i, files in enumerate(self.items):
            if i not in missing:
                for file in files:
                    forget_killed(file)
                say(f"{files[-1]} exists: skipped")
        return missing

    def require_missing(self, missing: Sequence[int]) -> None:
        """Raise `UserError` if ``missing`` is empty: there is nothing to do."""
        if not missing:
            raise UserError(
                f"{self.items[0][-1]} exists"
                + (f" (as do all {len(self.items)})" if len(self.items) > 1 else "")
                + ": add `overwrite=True` to make all anew, or choose another `out`"
            )


def require_same_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise `UserError`, naming the first difference, if the settings in ``path`` are others."""
    found = read_yaml(path)
    # As they would be read back: tuples are lists there.
    settings = yaml.safe_load(yaml.safe_dump(dict(settings), sort_keys=False))
    for key in [*settings, *(k for k in found if k not in settings)]:
        if found.get(key) != settings.get(key):
            raise UserError(
                f"{path.parent} was made with other settings ({key}: {found.get(key)}, now "
                f"{settings.get(key)}): choose another `out`, or add `overwrite=True` to replace it"
            )
