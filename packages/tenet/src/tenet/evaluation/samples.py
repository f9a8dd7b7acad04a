"""The images of an evaluation: recordings, or labels that are imaged on the spot."""

import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from scopekit.errors import UserError
from scopekit.images.files import is_zarr
from scopekit.progress import say
from tenet.alignment.shifts import shipped_alignment
from tenet.array_kinds import Array
from tenet.config.files import Config
from tenet.config.sections import Params, StackCrops
from tenet.data.crops import PhantomCrops, RecordingCrops
from tenet.data.labels import open_label
from tenet.data.recordings import (
    Recording,
    align_recording,
    differ,
    find_recordings,
    read_recording,
)
from tenet.data.value_range import ValueRange, require_range
from tenet.evaluation.scores import Sample
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
    value_range: ValueRange | None = None,
    failures: Failures | None = None,
) -> list[Sample]:
    """Read stacks, of series the first time point; with ``aligned``, align their slices.

    Tells of series and of files without a voxel size, and warns of voxels that are not those of
    the configuration.

    Parameters
    ----------
    files
        Stacks.
    params
        Of the configuration.
    aligned
        Whether to align slices.
    value_range
        Recorded values that become 0 and 1, see `read_recording`.
    failures
        Gets the files that cannot be used.

    Raises
    ------
    UserError
        If a file cannot be used and there is no ``failures``, or if two have the same name.
    """
    require_range(value_range)
    names = [path.stem for path in files]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two files of that name; rename one of them")
    samples = []
    alignment = shipped_alignment() if aligned else None
    for path in files:
        try:
            recording = read_recording(path, value_range=value_range)
            _tell_voxels(recording, params)
            if aligned:
                recording = align_recording(recording, alignment)
            samples.append(_sample(recording))
        except UserError as failure:
            if failures is None:
                raise
            failures.add(path, failure)
    return samples


def _tell_voxels(recording: Recording, params: Params) -> None:
    expected = (params.res_axial, params.res_lateral, params.res_lateral)
    found = recording.voxel_um
    sizes = [" x ".join(f"{step:.3g}" for step in voxel) for voxel in (found or (), expected)]
    if found is None:
        say(
            f"{recording.path.name}: tells no voxel size; taken from the configuration, "
            f"{sizes[1]} um (z, y, x)"
        )
    elif differ(found, expected):
        warnings.warn(
            f"{recording.path}: voxels of {sizes[0]} um (z, y, x), the configuration has "
            f"{sizes[1]}, by which it is measured; resample it, or check the configuration",
            stacklevel=2,
        )


def _sample(recording: Recording) -> Sample:
    if recording.n_frames > 1:
        say(
            f"{recording.path.name}: a series of {recording.n_frames} time points; time point 0 "
            "alone is evaluated"
        )
    return Sample(recording.path.stem, recording.volume)


def recorded_crops(
    config: Config,
    number: int | None,
    *,
    aligned: bool = False,
    value_range: ValueRange | None = None,
) -> list[Sample]:
    """Return crops of the recordings of ``val_dataset``, always the same.

    As many as it says (``I``), or ``number``. See `recorded_samples` for the rest.
    """
    data = config.section("val_dataset", StackCrops)
    left_out = config.test_dataset.test_images
    crops = RecordingCrops(data, left_out, align=aligned, value_range=value_range)
    samples = []
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        samples.append(Sample(f"{Path(crop.source).stem}_{n:02d}", crop.image[0].numpy()))
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
        found = sorted(path.glob(f"*{_LABEL}")) if path.is_dir() else [path]
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
    failures: Failures | None = None,
) -> Iterator[Sample]:
    """Yield images of labels, by the configuration's PSF and noise; or those of ``images``.

    Planes that do not fill one of the image are left out. ``value_range`` is of ``images``, see
    `recorded_samples`, as for ``failures``.

    Raises
    ------
    UserError
        If a file cannot be used, or an image is of another shape than its labels give.
    """
    for number, path in enumerate(files):
        try:
            if images:
                sample = _labelled(path, images[number], model.image.scale, value_range)
            else:
                sample = _simulated(path, model, seed + number)
        except UserError as failure:
            if failures is None:
                raise
            failures.add(images[number] if images else path, failure)
            continue
        yield sample


def _whole_planes(path: Path, scale: int) -> Array:
    labelx = np.array(open_label(path), dtype=np.float32)
    return labelx[: len(labelx) // scale * scale]


def _labelled(path: Path, image: Path, scale: int, value_range: ValueRange | None) -> Sample:
    labelx = _whole_planes(path, scale)
    sample = _sample(read_recording(image, value_range=value_range))
    shape = (len(labelx) // scale, *labelx.shape[1:])
    if sample.image.shape != shape:
        raise UserError(f"{image}: {sample.image.shape}, {path} gives {shape}")
    return replace(sample, truth=labelx)


def _simulated(path: Path, model: JNet, seed: int) -> Sample:
    labelx = _whole_planes(path, model.image.scale)
    name = path.name.removesuffix(_LABEL)
    partner = path.with_name(name + _LABEL.replace("x.", "z."))
    labelz = np.array(open_label(partner), dtype=np.float32)[: len(labelx)]
    if labelz.shape != labelx.shape:
        raise UserError(f"{path}: {labelx.shape}, its labelz {labelz.shape}; make both anew")
    return Sample(name, _image_of(labelz, model, seed), labelx)


def simulated_crops(config: Config, model: JNet, number: int | None) -> Iterator[Sample]:
    """Yield crops of the labels of ``pretrain_val_dataset``, imaged; always the same.

    As many as it says (``I``), or ``number``.
    """
    data = config.labels("pretrain_val_dataset")
    crops = PhantomCrops(data, turn=False)
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        image = _image_of(crop.labelz[0].numpy(), model, crop.noise_seed)
        name = crop.source.removesuffix(_LABEL)
        yield Sample(f"{name}_{n:02d}", image, crop.labelx[0].numpy())


def _image_of(labelz: Array, model: JNet, seed: int) -> Array:
    params, device = model.params, model.device
    a, sigma = (torch.tensor(v, device=device) for v in (params.poisson_weight, params.sig_eps))
    microscope = Microscope(model.image, model.image.analytic, a, sigma)
    image = microscope.record(torch.from_numpy(labelz)[None, None].to(device), [seed])
    array: Array = image[0, 0].cpu().numpy()
    return array
