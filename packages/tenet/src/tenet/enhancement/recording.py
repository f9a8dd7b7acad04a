"""The time points of a recording: each to files of its own, or all to one OME-Zarr store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection, VoxelSize
from scopekit.inputs import input_record, require_same_input, sha256_of
from scopekit.outputs import (
    forget_killed,
    require_names,
    require_new,
    require_no_input,
    whole_files,
)
from scopekit.progress import say
from scopekit.series.store import is_whole
from scopekit.settings import read_yaml
from tenet import __version__
from tenet.config.files import Config
from tenet.data.light_fields import views_doubt
from tenet.data.recordings import RecordingFile, open_recording, voxel_of
from tenet.enhancement.chunks import halo
from tenet.enhancement.results import (
    ENDINGS,
    StackOptions,
    StackTask,
    enhance_stack,
    result_name,
)
from tenet.enhancement.series import (
    SERIES_ENDINGS,
    ZARR_ENDING,
    MakeFrames,
    SeriesTask,
    enhance_series,
    make_here,
)
from tenet.network.jnet import JNet
from tenet.objects.labelling import CONNECTIVITY


@dataclass(frozen=True)
class OpenRecording:
    """A recording that can be enhanced.

    Attributes
    ----------
    file
        Where it is read.
    voxel_um
        (z, y, x) step in um.
    voxel_size_from
        Who tells it.
    """

    file: RecordingFile
    voxel_um: VoxelSize
    voxel_size_from: str


class Enhancer:
    """Enhances time points of recordings.

    Parameters
    ----------
    config, model, weights
        The network, and the file of its weights.
    options
        How to enhance a stack.
    out
        Folder of the results.
    selection
        Channel and position.
    sources
        All inputs of the run, none of which a result may replace.
    overwrite
        Whether to replace existing results.

    Attributes
    ----------
    model, options
        As given.
    """

    def __init__(
        self,
        config: Config,
        model: JNet,
        weights: Path,
        options: StackOptions,
        out: Path,
        selection: Selection = WHOLE_FILE,
        sources: Sequence[Path] = (),
        *,
        overwrite: bool = False,
    ) -> None:
        self.model, self.options = model, options
        self._config, self._weights = config, weights
        self._out, self._selection = out, selection
        self._sources, self._overwrite = sources, overwrite

    def open(self, path: Path) -> OpenRecording:
        """Open a recording; raise `UserError` if the network does not fit it."""
        recording = open_recording(path, self._selection)
        doubt = views_doubt(recording)
        if doubt:
            say(f"{path.name}: {doubt}")
        return OpenRecording(recording, *self._voxel(recording))

    def is_done(self, opened: OpenRecording, frame: int) -> bool:
        """Whether a time point has results, which are kept; say so.

        Raises
        ------
        UserError
            If its results cannot take their names.
        """
        stem = self._out / result_name(opened.file, frame)
        last = stem.with_name(stem.name + ENDINGS[-1])
        return self._is_kept(opened, frame, stem, ENDINGS, there=last.exists())

    def is_series_done(self, opened: OpenRecording) -> bool:
        """Whether a recording has a store of all its time points, as `is_done` says."""
        stem = self._out / result_name(opened.file)
        result = stem.with_name(stem.name + ZARR_ENDING)
        return self._is_kept(opened, 0, stem, SERIES_ENDINGS, there=is_whole(result))

    def _is_kept(
        self,
        opened: OpenRecording,
        frame: int,
        stem: Path,
        endings: Sequence[str],
        *,
        there: bool,
    ) -> bool:
        settings, last = (stem.with_name(stem.name + end) for end in (".yaml", endings[-1]))
        require_names(stem, endings)
        for ending in endings:
            require_no_input(stem.with_name(stem.name + ending), self._sources)
        if self._overwrite or not there:
            return False
        require_same_input(settings, last, opened.file.path)
        forget_killed(stem)
        other = ", ".join(_other_settings(settings, self._noted(opened, frame)))
        say(f"{last} exists{f', made with another {other}' if other else ''}: skipped")
        return True

    def enhance(self, opened: OpenRecording, frame: int) -> None:
        """Make the results of a time point."""
        task = self.task(opened, frame)
        stem = self._out / result_name(opened.file, frame)
        last = stem.with_name(stem.name + ENDINGS[-1])
        with whole_files(stem, ENDINGS) as folder:
            require_new(last, overwrite=self._overwrite)  # another run may have finished it
            enhance_stack(self.model, task, folder)
        say(str(last))

    def enhance_series(
        self, opened: OpenRecording, frames: Sequence[int], make: MakeFrames | None = None
    ) -> int:
        """Make time points of a recording in its store; return how many were lacking.

        ``make`` makes them, by default one after the other here.
        """
        task = SeriesTask(
            self._out / result_name(opened.file),
            [self.task(opened, frame) for frame in frames],
            self._stamp(opened),
            self._overwrite,
        )
        return enhance_series(self.model, task, make or make_here(self.model))

    def task(self, opened: OpenRecording, frame: int) -> StackTask:
        """Return what to do with a time point."""
        noted = self._noted(opened, frame)
        return StackTask(opened.file, frame, opened.voxel_um, self.options, noted)

    def _stamp(self, opened: OpenRecording) -> dict[str, Any]:
        """Return what must be equal for a run to go on with what another has made.

        Another device gives the same; a network is told by its content.
        """
        noted = self._noted(opened, 0)
        left_out = ("time_point", "device", "checkpoint")
        told = {name: value for name, value in noted.items() if name not in left_out}
        told["input"] = str(opened.file.path.resolve())
        return {**told, "checkpoint_sha256": sha256_of(self._weights)}

    def _voxel(self, recording: RecordingFile) -> tuple[VoxelSize, str]:
        """Return the (z, y, x) step of the recording in um, and who tells it."""
        steps, trained = recording.steps, self.model.recorded_voxel_um
        told = "the network was not trained for such voxels; resample the stack, or train for it"
        found = voxel_of(recording.path, steps, trained, told)
        origin = "the file" if steps.source else "the configuration"
        unknown = [axis for axis in "zyx" if getattr(steps, f"{axis}_um") is None]
        if steps.source and unknown:
            origin += f", {' and '.join(unknown)} from the configuration"
        return found, origin

    def _noted(self, opened: OpenRecording, frame: int) -> dict[str, Any]:
        options, recording = self.options, opened.file
        return {
            "method": "tenet",
            "tenet_version": __version__,
            **input_record(recording.path),
            "time_point": frame,
            "recorded_shape": list(recording.shape),
            "voxel_size_from": opened.voxel_size_from,
            "checkpoint": str(self._weights),
            "configuration": self._config.name,
            "threshold": options.threshold,
            "value_range": options.value_range and list(options.value_range),
            **self._selection.settings(),
            "dtype": options.dtype,
            "params": self.model.params.model_dump(mode="json"),
            "connectivity": CONNECTIVITY,
            "halo_voxels": list(halo(self._config.params)),
            "device": str(self.model.device),
            "torch_version": str(torch.__version__),
        }


def _other_settings(path: Path, settings: dict[str, Any]) -> list[str]:
    """Return in which of the options that shape results those of a settings file differ."""
    try:
        found = read_yaml(path)
    except UserError:
        return []
    # Workers note absolute names.
    found, settings = (
        {**told, "checkpoint": Path(str(told.get("checkpoint"))).resolve()}
        for told in (found, settings)
    )
    names = ["configuration", "checkpoint", "value_range", "threshold", "dtype"]
    names += ["channel", "position", "frames_are"]
    return [name for name in names if found.get(name) != settings.get(name)]
