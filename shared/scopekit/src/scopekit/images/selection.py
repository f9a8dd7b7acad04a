"""Which part of a file is meant, where there are several channels or positions."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Selection:
    """Which part of a file is meant, where there are several.

    Attributes
    ----------
    channel, position
        Counted from 0; ``None`` where there is but one.
    frames_are
        ``planes`` if images that the file calls time points or channels are planes, or views.
    n_views
        Numbers of channels of one plane each that can only be views.
    where_several
        Whether files that have but one channel or position are taken as well.
    """

    channel: int | None = None
    position: int | None = None
    frames_are: Literal["planes"] | None = None
    n_views: tuple[int, ...] = ()
    where_several: bool = False

    def settings(self) -> dict[str, int | str]:
        """Return what was selected, to be noted beside results."""
        chosen: dict[str, int | str] = {}
        if self.channel is not None:
            chosen["channel"] = self.channel
        if self.position is not None:
            chosen["position"] = self.position
        if self.frames_are is not None:
            chosen["frames_are"] = self.frames_are
        return chosen


WHOLE_FILE = Selection()
