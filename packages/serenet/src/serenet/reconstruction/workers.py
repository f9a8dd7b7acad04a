"""Frames that the workers of a cluster reconstruct: each loads the network once."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scopekit.memory import return_freed_memory
from serenet.reconstruction.frame import FrameReconstructor
from serenet.reconstruction.setup import ReconstructOptions, Setup, set_up
from serenet.results.workers import OpenFrames
from serenet.views.files import open_views


@dataclass(frozen=True)
class ReconstructedFrames:
    """The frames of a view stack, to be reconstructed, see `serenet.results.workers.FrameSource`.

    Attributes
    ----------
    path
        The view stack.
    options
        The command's.
    contents
        The run's settings, which tell the files behind the options from earlier ones of the same
        names: digests, the optics.
    input_version
        The same of the view stack.
    """

    path: Path
    options: ReconstructOptions
    contents: str
    input_version: str

    def open(self) -> OpenFrames:
        """Load what its frames share."""
        setup = _set_up_once(self.options, self.contents)
        stack, pages = open_views(self.path, setup.recorded, self.options.selection)
        shape = setup.volume_shape(stack.shape[-2:])
        return OpenFrames(stack, shape, FrameReconstructor(setup, pages))


@lru_cache(maxsize=1)
def _set_up_once(options: ReconstructOptions, contents: str) -> Setup:
    return_freed_memory()
    return set_up(options)
