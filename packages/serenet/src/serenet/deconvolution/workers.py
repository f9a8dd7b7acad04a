"""Frames that the workers of a cluster deconvolve: each finds the PSF once."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scopekit.memory import return_freed_memory
from serenet.deconvolution.frame import FrameDeconvolver
from serenet.deconvolution.resume import SavedSweeps
from serenet.deconvolution.setup import DeconvolveOptions, Setup, set_up
from serenet.results.workers import OpenFrames
from serenet.views.files import open_views


@dataclass(frozen=True)
class DeconvolvedFrames:
    """The frames of a view stack, to be deconvolved, see `serenet.results.workers.FrameSource`.

    Attributes
    ----------
    path
        The view stack.
    options
        The command's.
    result
        The volumes to be made.
    stamp
        What must be equal to go on with the sweeps of another worker, as `SavedSweeps` keeps it.
    contents
        The run's settings, which tell the files behind the options from earlier ones of the same
        names: digests, the optics.
    """

    path: Path
    options: DeconvolveOptions
    result: Path
    stamp: str
    contents: str

    def open(self) -> OpenFrames:
        """Set up what its frames share."""
        setup = _set_up_once(self.options, self.contents)
        stack, pages = open_views(self.path, setup.recorded, self.options.selection)
        shape = setup.volume_shape(stack.shape[-2:])
        state = SavedSweeps(self.result, self.stamp)
        return OpenFrames(stack, shape, FrameDeconvolver(setup, pages, state), state.forget)


@lru_cache(maxsize=1)
def _set_up_once(options: DeconvolveOptions, contents: str) -> Setup:
    return_freed_memory()
    return set_up(options)
