"""The images of an evaluation: recordings, or labels that are imaged on the spot."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection, is_zarr
from scopekit.images.order import by_number
from scopekit.progress import say
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import alignment_of, shipped_alignment
from tenet.alignment.vibration import draw_shifts, shift_slices, strength_at
from tenet.array_kinds import Array
from tenet.config.files import Config
from tenet.config.sections import Params, StackCrops, Vibration
from tenet.data.crops import PhantomCrops, RecordingCrops, tell_voxels
from tenet.data.labels import open_label
from tenet.data.recordings import (
    Recording,
    align_recording,
    find_recordings,
    fold_folder,
    read_selected,
)
from tenet.data.value_range import ValueRange, require_range
from tenet.evaluation.scores import Sample
from tenet.evaluation.scratch import IN_MEMORY, Scratch
from tenet.microscope.imaging import Microscope
from tenet.network.jnet import JNet

_LABEL = "_labelx.npy"
_ANY_LABEL = re.compile(r"\d+_label[xz]\.npy$")


def recording_files(inputs: Sequence[Path]) -> list[Path]:
    """Return the stacks of files and folders; raise `UserError` if labels are among them."""
    files: list[Path] = []
    for path in inputs:
        files += find_recordings(path) if path.is_dir() and not is_zarr(path) else [path]
    for path in files:
        if _ANY_LABEL.match(path.name):
            raise UserError(
                f"{path} is a label of datagen, not a recording: use 'tenet evaluate simulation', "
                "which images labels"
            )
    return files


class Failures:
    """Files that could not be used: each is told at once, and all at the end.

    Parameters
    ----------
    number
        Of all files; if there is but one, its failure is raised.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._files: list[Path] = []

    def add(self, path: Path, failure: UserError) -> None:
        """Tell of a file that could not be used."""
        if self._number == 1:
            raise failure
        say(f"error: {failure}")
        self._files.append(path)

    def require_none(self) -> None:
        """Raise `UserError` if any file could not be used."""
        if self._files:
            names = ", ".join(map(str, self._files))
            raise UserError(
                f"{len(self._files)} of {self._number} inputs failed, the rest is done: {names}"
            )


def recorded_samples(
    files: Sequence[Path],
    params: Params,
    *,
    aligned: bool = False,
    alignment: DeepAlignNet | None = None,
    value_range: ValueRange | None = None,
    selection: Selection = WHOLE_FILE,
    failures: Failures | None = None,
    scratch: Scratch = IN_MEMORY,
) -> Iterator[Sample]:
    """Yield stacks, of series the first time point; with ``aligned``, align their slices.

    Tells of series and of files without a voxel size, and warns of voxels that are not those of
    the configuration.

    Parameters
    ----------
    files
        Stacks.
    params
        Of the configuration.
    aligned, alignment
        Whether to align slices, and by which network; by default by the one that ships.
    value_range
        Recorded values that become 0 and 1, see `read_recording`.
    selection
        Which channel and position of files that have several.
    failures
        Gets the files that cannot be used.
    scratch
        Where large stacks lie.

    Raises
    ------
    UserError
        If a file cannot be used and there is no ``failures``.
    """
    require_range(value_range)
    if aligned:
        alignment = alignment or shipped_alignment()
    for path in files:
        try:
            recording = read_selected(path, selection, value_range=value_range, make=scratch.room)
            tell_voxels(recording, params, "by which it is measured")
            if aligned:
                recording = align_recording(recording, alignment)
            sample = _sample(recording)
        except UserError as failure:
            if failures is None:
                raise
            failures.add(path, failure)
            continue
        yield sample


def names_of(files: Sequence[Path]) -> list[str]:
    """Return the names of recorded images; raise `UserError` if two have the same."""
    names = [path.stem for path in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two files of that name; rename one of them")
    return names


def _sample(recording: Recording) -> Sample:
    if recording.n_frames > 1:
        say(
            f"{recording.path.name}: a series of {recording.n_frames} time points; time point 0 "
            "alone is evaluated"
        )
    return Sample(recording.path.stem, recording.volume, own_scale=recording.own_scale)


def recorded_crops(
    config: Config,
    number: int | None,
    *,
    aligned: bool = False,
    fold: str | None = None,
    value_range: ValueRange | None = None,
) -> list[Sample]:
    """Return crops of the recordings of ``val_dataset``, always the same.

    As many as it says (``I``), or ``number``; of a fold if one is named. See `recorded_samples`
    for the rest.
    """
    data = config.section("val_dataset", StackCrops)
    folder = str(fold_folder(data.folderpath, fold))
    data = data.model_copy(update={"folderpath": folder})
    crops = RecordingCrops(
        data,
        config.test_dataset.test_images,
        align=aligned,
        alignment=alignment_of(config) if aligned else None,
        value_range=value_range,
    )
    samples = []
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        name, image = f"{Path(crop.source).stem}_{n:02d}", crop.image[0].numpy()
        samples.append(Sample(name, image, own_scale=value_range is None))
    return samples


def label_files(inputs: Sequence[Path]) -> list[Path]:
    """Return the files NNNN_labelx.npy among files and of folders.

    Raises
    ------
    UserError
        If a file has another name, or a folder holds none.
    """
    files: list[Path] = []
    for path in inputs:
        found = sorted(path.glob(f"*{_LABEL}"), key=by_number) if path.is_dir() else [path]
        if not found or not found[0].name.endswith(_LABEL):
            raise UserError(
                f"{path}: no label; give files NNNN{_LABEL}, or their folder (datagen makes them)"
            )
        files += found
    return files


def simulated_samples(
    files: Sequence[Path],
    model: JNet,
    seed: int,
    images: Sequence[Path] = (),
    *,
    value_range: ValueRange | None = None,
    selection: Selection = WHOLE_FILE,
    failures: Failures | None = None,
    scratch: Scratch = IN_MEMORY,
) -> Iterator[Sample]:
    """Yield images of labels, by the configuration's PSF and noise; or those of ``images``.

    Planes that do not fill one of the image are left out. ``value_range`` and ``selection``
    are of ``images``, see `recorded_samples`, as for ``failures`` and ``scratch``.

    Raises
    ------
    UserError
        If a file cannot be used, or an image is of another shape than its labels give.
    """
    for number, path in enumerate(files):
        try:
            if images:
                image = read_selected(
                    images[number], selection, value_range=value_range, make=scratch.room
                )
                sample = _labelled(path, image, model.image.scale, scratch)
            else:
                sample = _simulated(path, model, seed + number, scratch)
        except UserError as failure:
            if failures is None:
                raise
            failures.add(images[number] if images else path, failure)
            continue
        yield sample


def _whole_planes(path: Path, scale: int, scratch: Scratch) -> Array:
    label = open_label(path)
    return scratch.made(_single, label[: len(label) // scale * scale])


def _single(part: Array) -> Array:
    return part.astype(np.float32)


def _labelled(path: Path, image: Recording, scale: int, scratch: Scratch) -> Sample:
    labelx = _whole_planes(path, scale, scratch)
    sample = _sample(image)
    shape = (len(labelx) // scale, *labelx.shape[1:])
    if sample.image.shape != shape:
        raise UserError(f"{image.path}: {sample.image.shape}, {path} gives {shape}")
    labelz = _labelz(path, labelx, scratch) if _partner(path).is_file() else None
    return replace(sample, truth=labelx, truth_brightness=labelz)


def _simulated(path: Path, model: JNet, seed: int, scratch: Scratch) -> Sample:
    labelx = _whole_planes(path, model.image.scale, scratch)
    labelz = _labelz(path, labelx, scratch)
    return Sample(label_name(path), _image_of(labelz, model, seed), labelx, labelz)


def label_name(path: Path) -> str:
    """Return the name of a label's image: what stands before ``_labelx.npy``."""
    return path.name.removesuffix(_LABEL)


def _partner(path: Path) -> Path:
    return path.with_name(label_name(path) + _LABEL.replace("x.", "z."))


def _labelz(path: Path, labelx: Array, scratch: Scratch) -> Array:
    labelz = scratch.made(_single, open_label(_partner(path))[: len(labelx)])
    if labelz.shape != labelx.shape:
        raise UserError(f"{path}: {labelx.shape}, its labelz {labelz.shape}; make both anew")
    return labelz


def simulated_crops(config: Config, model: JNet, number: int | None) -> Iterator[Sample]:
    """Yield crops of the labels of ``pretrain_val_dataset``, imaged; always the same.

    As many as it says (``I``), or ``number``.
    """
    data = config.labels("pretrain_val_dataset")
    crops = PhantomCrops(data, turn=False)
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        labelx, labelz = crop.labelx[0].numpy(), crop.labelz[0].numpy()
        image = _image_of(labelz, model, crop.noise_seed)
        yield Sample(f"{crop.source.removesuffix(_LABEL)}_{n:02d}", image, labelx, labelz)


def shaken(sample: Sample, vibration: Vibration, seed: int) -> Sample:
    """Return an image with its slices displaced, as strongly as the vibration gets."""
    strength = strength_at(vibration, vibration.max_step)
    shifts = draw_shifts(strength, len(sample.image), np.random.default_rng(seed))
    stack = torch.from_numpy(sample.image)[None, None]
    moved: Array = shift_slices(stack, torch.from_numpy(shifts)[None])[0, 0].numpy()
    return replace(sample, image=moved)


def _image_of(labelz: Array, model: JNet, seed: int) -> Array:
    params, device = model.params, model.device
    a, sigma = (torch.tensor(v, device=device) for v in (params.poisson_weight, params.sig_eps))
    microscope = Microscope(model.image, model.image.analytic, a, sigma)
    image = microscope.record(torch.from_numpy(labelz)[None, None].to(device), [seed])
    array: Array = image[0, 0].cpu().numpy()
    return array
