"""Writes the results of a command: many inputs, each whole or absent, as TIFF or OME-Zarr.

Every input gives ``<stem>_<method>.tif`` (or ``.ome.zarr``), a picture ``.png`` and the settings
``.yaml``. The volume takes its name last, so where it exists the result is complete.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scopekit.errors import UserError
from scopekit.images.files import PartialVoxelSize, StackFile, is_zarr, stack_stem
from scopekit.inputs import is_made_from
from scopekit.outputs import forget_killed, require_names, require_no_input, require_writable
from scopekit.progress import say
from scopekit.series.pipeline import FrameSolver, run_frames
from scopekit.series.store import FrameSeries, is_whole
from serenet.results.contents import fingerprint
from serenet.results.landing import Draw, FinishFrame, Landing, draw_volume, finish_nothing
from serenet.results.tiff import write_tiff
from serenet.results.zarr import write_store

SpreadFrames = Callable[[StackFile, FrameSeries, Sequence[int]], dict[int, str]]
"""``spread(source, series, frames)`` makes frames of a series elsewhere and keeps them.

It returns why frames failed, by frame.
"""


MayGoOn = Callable[[Path], bool]
"""``may_go_on(result)``: whether a run continues an existing result, and so may replace it."""


def never(result: Path) -> bool:
    """Whether a run continues an existing result: no, it is kept."""
    return False


@dataclass(frozen=True, kw_only=True)
class ResultOptions:
    """What a command's options say about its results.

    Attributes
    ----------
    out
        Folder of the results.
    format
        ``tif`` or ``zarr``; ``None`` is that of the input.
    dtype
        ``float32`` or ``uint16``.
    preview
        Whether to draw pictures.
    overwrite
        Whether to replace existing results.
    """

    out: Path
    format: str | None = None
    dtype: str = "float32"
    preview: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class ResultWriter:
    """Writes the results of all inputs of a run.

    Attributes
    ----------
    options
        Where and how.
    method
        Ending of their names.
    settings
        The resolved settings, saved beside every result.
    draw
        Draws a result.
    finish
        Writes what belongs to a frame beside its result.
    may_go_on
        Whether a run continues an existing TIFF: then it is replaced when the new one is whole.
    """

    options: ResultOptions
    method: str
    settings: Mapping[str, Any]
    draw: Draw = draw_volume
    finish: FinishFrame = finish_nothing
    may_go_on: MayGoOn = never

    def pending(self, sources: list[Path]) -> list[Path]:
        """Return the sources without a result; raise `UserError` if there is none."""
        options = self.options
        require_writable(options.out)
        for source in sources:
            require_names(self.stem(source), (self._ending(source),))
            require_no_input(self.result(source), sources)
        if options.dtype != "float32" and any(map(self._lands_as_zarr, sources)):
            raise UserError(
                f"`dtype={options.dtype}`: the scale is known when all frames are, and OME-Zarr "
                "is written frame by frame: leave it out, or give `format=tif`"
            )
        if options.overwrite:
            return sources
        pending = [s for s in sources if not self._is_done(s)]
        if not pending:
            raise UserError(
                f"{self.result(sources[0])} exists"
                + (f" (as do all {len(sources)} results)" if len(sources) > 1 else "")
                + ": add `overwrite=True` to replace it, or choose another `out`"
            )
        for source in sources:
            if source not in pending:
                forget_killed(self.stem(source))
                say(f"{self.result(source)} exists: skipped")
        return pending

    def write(
        self,
        source: StackFile,
        volume_shape: tuple[int, int, int],
        voxel_um: PartialVoxelSize,
        solve: FrameSolver,
        *,
        spread: SpreadFrames | None = None,
        kept: Callable[[int], None] = lambda _: None,
    ) -> Path:
        """Make all frames of one input and land its result.

        Parameters
        ----------
        source
            The view stack.
        volume_shape
            (Z, Y, X) of one frame's volume.
        voxel_um
            (z, y, x) step of the volumes, um, ``None`` where it is unknown.
        solve
            Makes a frame.
        spread
            Makes frames elsewhere instead, if they land as OME-Zarr.
        kept
            Told every frame that no interruption can lose any more.

        Returns
        -------
        Path
            The volume.

        Raises
        ------
        UserError
            If it cannot be made or written.
        """
        options = self.options
        landing = Landing(
            source=source,
            stem=self.stem(source.path),
            volume_shape=volume_shape,
            voxel_um=voxel_um,
            settings=self.settings,
            draw=self.draw if options.preview else None,
            finish=self.finish,
            dtype=options.dtype,
            overwrite=options.overwrite or self._goes_on(source.path),
        )
        if not self._lands_as_zarr(source.path):
            return write_tiff(landing, solve)

        def make(series: FrameSeries, frames: Sequence[int]) -> dict[int, str]:
            if spread is None or not frames:
                return run_frames(source, series, frames, solve, kept)
            return spread(source, series, frames)

        return write_store(landing, self.stamp(source), make)

    def stamp(self, source: StackFile) -> dict[str, Any]:
        """Return what must be equal for a run to go on with what another has made.

        Another device gives the same frames.
        """
        settings = {name: value for name, value in self.settings.items() if name != "device"}
        return {**settings, **fingerprint(source)}

    def result(self, source: Path) -> Path:
        """Return the name of the volume made from ``source``."""
        stem = self.stem(source)
        return stem.with_name(stem.name + self._ending(source))

    def stem(self, source: Path) -> Path:
        """Return the same without its ending."""
        return self.options.out / f"{stack_stem(source)}_{self.method}"

    def _settings_file(self, source: Path) -> Path:
        stem = self.stem(source)
        return stem.with_name(stem.name + ".yaml")

    def _ending(self, source: Path) -> str:
        return ".ome.zarr" if self._lands_as_zarr(source) else ".tif"

    def _lands_as_zarr(self, source: Path) -> bool:
        return is_zarr(source) if self.options.format is None else self.options.format == "zarr"

    def _is_done(self, source: Path) -> bool:
        result = self.result(source)
        exists = is_whole(result) if self._lands_as_zarr(source) else result.exists()
        is_own = exists and is_made_from(self._settings_file(source), source)
        return is_own and not self._goes_on(source)

    def _goes_on(self, source: Path) -> bool:
        is_own = is_made_from(self._settings_file(source), source)
        return is_own and not self._lands_as_zarr(source) and self.may_go_on(self.result(source))
