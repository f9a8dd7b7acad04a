"""The images of an evaluation: recordings, or labels that are imaged on the spot."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from scopekit.errors import UserError
from tenet.config import Config
from tenet.config_sections import LabelCrops, Params, StackCrops
from tenet.imaging import Microscope
from tenet.jnet import JNet
from tenet.label_volumes import open_label
from tenet.methods import Sample
from tenet.recordings import Recording, find_recordings, read_recording, split_recordings
from tenet.training_crops import PhantomCrops, RecordingCrops, align_recording

Array = NDArray[np.float32]
_LABEL = "_labelx.npy"
# Relative difference between two voxel sizes that is worth a warning.
_SAME_VOXEL = 0.1


def recording_files(inputs: Sequence[Path]) -> list[Path]:
    """Return the stacks of files and folders."""
    files: list[Path] = []
    for path in inputs:
        files += find_recordings(path) if path.is_dir() else [path]
    return files


def recorded_samples(
    files: Sequence[Path], params: Params, *, aligned: bool = False
) -> list[Sample]:
    """Read stacks; with ``aligned``, align their slices.

    Warns of voxels that are not those of the configuration.

    Raises
    ------
    UserError
        If a file cannot be used, or two have the same name.
    """
    recordings = [read_recording(path) for path in files]
    for recording in recordings:
        _compare_voxels(recording, params)
    samples = [_sample(recording, aligned=aligned) for recording in recordings]
    names = [sample.name for sample in samples]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{name}: two files of that name; rename one of them")
    return samples


def _compare_voxels(recording: Recording, params: Params) -> None:
    expected = (params.res_axial, params.res_lateral, params.res_lateral)
    found = recording.voxel_um
    if found and any(abs(a / b - 1) > _SAME_VOXEL for a, b in zip(found, expected, strict=True)):
        sizes = [" x ".join(f"{step:.3g}" for step in voxel) for voxel in (found, expected)]
        warnings.warn(
            f"{recording.path}: voxels of {sizes[0]} um (z, y, x), the configuration has "
            f"{sizes[1]}, by which it is measured; resample it, or check the configuration",
            stacklevel=2,
        )


def _sample(recording: Recording, *, aligned: bool) -> Sample:
    volume = (align_recording(recording) if aligned else recording).volume
    return Sample(recording.path.stem, volume)


def held_out_recordings(config: Config) -> list[Path]:
    """Return the stacks that training leaves out, ``test_dataset.test_images``; else validation's.

    From the folder of ``val_dataset``.
    """
    folder = Path(config.section("val_dataset", StackCrops).folderpath)
    wanted = config.test_dataset.test_images
    everything = find_recordings(folder)
    kept = [path for path in everything if wanted and path.stem.endswith(wanted)]
    return kept or split_recordings(everything, train=False)


def recorded_crops(config: Config, number: int | None, *, aligned: bool = False) -> list[Sample]:
    """Return crops of the recordings of ``val_dataset``, always the same.

    As many as it says (``I``), or ``number``.
    """
    data = config.section("val_dataset", StackCrops)
    crops = RecordingCrops(data, config.test_dataset.test_images, align=aligned)
    samples = []
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        assert crop.image is not None
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
    files: Sequence[Path], model: JNet, seed: int, images: Sequence[Path] = ()
) -> Iterator[Sample]:
    """Yield images of labels, by the configuration's PSF and noise; or those of ``images``.

    Planes that do not fill one of the image are left out.

    Raises
    ------
    UserError
        If a file cannot be used, or an image is of another shape than its labels give.
    """
    scale = model.image.scale
    for number, path in enumerate(files):
        labelx = np.array(open_label(path), dtype=np.float32)
        labelx = labelx[: len(labelx) // scale * scale]
        name = path.name.removesuffix(_LABEL)
        if images:
            sample = _sample(read_recording(images[number]), aligned=False)
            shape = (len(labelx) // scale, *labelx.shape[1:])
            if sample.image.shape != shape:
                raise UserError(f"{images[number]}: {sample.image.shape}, {path} gives {shape}")
            yield replace(sample, truth=labelx)
            continue
        partner = path.with_name(name + _LABEL.replace("x.", "z."))
        labelz = np.array(open_label(partner), dtype=np.float32)[: len(labelx)]
        if labelz.shape != labelx.shape:
            raise UserError(f"{path}: {labelx.shape}, its labelz {labelz.shape}; make both anew")
        yield Sample(name, _image_of(labelz, model, seed + number), labelx)


def simulated_crops(config: Config, model: JNet, number: int | None) -> Iterator[Sample]:
    """Yield crops of the labels of ``pretrain_val_dataset``, imaged; always the same.

    As many as it says (``I``), or ``number``.
    """
    data = config.section("pretrain_val_dataset", LabelCrops)
    crops = PhantomCrops(data, turn=False)
    for n in range(number or data.I):
        crop = crops.draw(np.random.default_rng([data.seed, n]))
        assert crop.labelx is not None
        assert crop.labelz is not None
        image = _image_of(crop.labelz[0].numpy(), model, crop.noise_seed)
        name = crop.source.removesuffix(_LABEL)
        yield Sample(f"{name}_{n:02d}", image, crop.labelx[0].numpy())


def _image_of(labelz: Array, model: JNet, seed: int) -> Array:
    params, device = model.params, model.a.device
    a, sigma = (torch.tensor(v, device=device) for v in (params.poisson_weight, params.sig_eps))
    microscope = Microscope(model.image, model.image.analytic, a, sigma)
    image = microscope.record(torch.from_numpy(labelz)[None, None].to(device), [seed])
    array: Array = image[0, 0].cpu().numpy()
    return array
