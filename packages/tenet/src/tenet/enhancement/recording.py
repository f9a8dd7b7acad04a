"""The time points of a recording, each to a folder's results, whole or not at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection, VoxelSize, stack_stem
from scopekit.inputs import input_record, require_same_input
from scopekit.outputs import (
    forget_killed,
    require_names,
    require_new,
    require_no_input,
    whole_files,
)
from scopekit.progress import say
from scopekit.settings import read_yaml
from tenet import __version__
from tenet.config.files import Config
from tenet.data.recordings import RecordingFile, open_recording, voxel_of
from tenet.enhancement.chunks import halo
from tenet.enhancement.results import ENDINGS, StackOptions, StackTask, enhance_stack
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

    def result_name(self, frame: int) -> str:
        """Return the stem of the results of a time point."""
        name = stack_stem(self.file.path)
        if self.file.n_frames > 1:
            name += f"_t{frame:0{max(len(str(self.file.n_frames - 1)), 3)}d}"
        return f"{name}_tenet"


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
        self._config, self._model, self._weights = config, model, weights
        self._options, self._out, self._selection = options, out, selection
        self._sources, self._overwrite = sources, overwrite

    def open(self, path: Path) -> OpenRecording:
        """Open a recording; raise `UserError` if the network does not fit it."""
        recording = open_recording(path, self._selection)
        return OpenRecording(recording, *self._voxel(recording))

    def is_done(self, opened: OpenRecording, frame: int) -> bool:
        """Whether a time point has results, which are kept; say so.

        Raises
        ------
        UserError
            If its results cannot take their names.
        """
        out, name = self._out, opened.result_name(frame)
        last = out / f"{name}{ENDINGS[-1]}"
        require_names(out / name, ENDINGS)
        for ending in ENDINGS:
            require_no_input(out / f"{name}{ending}", self._sources)
        if self._overwrite or not last.exists():
            return False
        require_same_input(out / f"{name}.yaml", last, opened.file.path)
        forget_killed(out / name)
        other = ", ".join(_other_settings(out / f"{name}.yaml", self._noted(opened, frame)))
        say(f"{last} exists{f', made with another {other}' if other else ''}: skipped")
        return True

    def enhance(self, opened: OpenRecording, frame: int) -> None:
        """Make the results of a time point."""
        out, name = self._out, opened.result_name(frame)
        last = out / f"{name}{ENDINGS[-1]}"
        noted = self._noted(opened, frame)
        task = StackTask(opened.file, frame, opened.voxel_um, self._options, noted)
        with whole_files(out / name, ENDINGS) as folder:
            require_new(last, overwrite=self._overwrite)  # another run may have finished it
            enhance_stack(self._model, task, folder)
        say(str(last))

    def _voxel(self, recording: RecordingFile) -> tuple[VoxelSize, str]:
        """Return the (z, y, x) step of the recording in um, and who tells it."""
        steps, trained = recording.steps, self._model.recorded_voxel_um
        told = "the network was not trained for such voxels; resample the stack, or train for it"
        found = voxel_of(recording.path, steps, trained, told)
        origin = "the file" if steps.source else "the configuration"
        unknown = [axis for axis in "zyx" if getattr(steps, f"{axis}_um") is None]
        if steps.source and unknown:
            origin += f", {' and '.join(unknown)} from the configuration"
        return found, origin

    def _noted(self, opened: OpenRecording, frame: int) -> dict[str, Any]:
        options, recording = self._options, opened.file
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
            "params": self._model.params.model_dump(mode="json"),
            "connectivity": CONNECTIVITY,
            "halo_voxels": list(halo(self._config.params)),
            "device": str(self._model.device),
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
