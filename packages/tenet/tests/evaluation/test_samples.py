"""The images of an evaluation: whence they come, and what is done to them."""

import numpy as np
import pytest
import torch

from scopekit.images.files import write_volume
from tenet.alignment.shifts import align
from tenet.config.files import load_config
from tenet.evaluation.samples import (
    label_files,
    recorded_crops,
    recorded_samples,
    simulated_crops,
    simulated_samples,
)
from tenet.network.jnet import JNet


@pytest.fixture
def config(work, write_config):
    path = write_config("tuned", params__poisson_weight=0.02, params__sig_eps=0.1)
    return load_config(path)


@pytest.fixture
def model(config):
    torch.manual_seed(0)
    return JNet(config.params).eval()


def blurred(model, labelz):
    """Return the image by the analytic PSF, without noise."""
    with torch.no_grad():
        volume = torch.from_numpy(labelz)[None, None]
        return model.image(volume, model.image.analytic)[0, 0].numpy()


def test_labels_are_imaged_by_the_analytic_psf_with_noise(work, model):
    files = label_files([work / "labels"])
    samples = list(simulated_samples(files, model, seed=3))
    assert [sample.name for sample in samples] == ["0000", "0001", "0002"]
    residuals = []
    for path, sample in zip(files, samples, strict=True):
        labelz = np.load(str(path).replace("labelx", "labelz"))[0]
        np.testing.assert_array_equal(sample.truth, np.load(path)[0])
        clean = blurred(model, labelz)
        inside = (clean > 0.35) & (clean < 0.65)  # hardly ever clipped
        residuals.append((sample.image - clean)[inside] / (0.02 * clean + 0.1)[inside])
    spread = np.concatenate(residuals).std()
    assert spread == pytest.approx(1, abs=0.1)


def test_labels_come_in_the_order_of_their_numbers(tmp_path):
    names = [f"{n}_labelx.npy" for n in (2, 9, 10, 100)]
    for name in reversed(names):
        (tmp_path / name).touch()
    assert [path.name for path in label_files([tmp_path])] == names


def test_every_label_has_noise_of_its_own(work, model):
    first, second, _ = label_files([work / "labels"])
    for ending in "xz":
        twin = str(first).replace("labelx", f"label{ending}")
        np.save(str(second).replace("labelx", f"label{ending}"), np.load(twin))
    one, other = (s.image for s in simulated_samples([first, second], model, seed=3))
    assert not np.array_equal(one, other)
    (again,) = simulated_samples([second], model, seed=4)
    assert np.array_equal(again.image, other)


def test_crops_of_labels_are_of_places_and_noise_of_their_own(config, model):
    samples = list(simulated_crops(config, model, 6))
    assert len({sample.truth.tobytes() for sample in samples}) > 1
    assert [sample.name for sample in samples][:2] == ["0002_00", "0002_01"]
    again = list(simulated_crops(config, model, 6))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(samples, again, strict=True))
    image = np.stack([sample.image for sample in samples])
    assert image.shape == (6, 4, 16, 16)
    assert 0 <= image.min() <= image.max() <= 1


def test_crops_of_recordings_are_of_places_of_their_own(work, config):
    samples = recorded_crops(config, 6)
    assert len({sample.image.tobytes() for sample in samples}) > 3
    assert {sample.name[:3] for sample in samples} == {"s02"}


@pytest.fixture
def shaken(work):
    """Return a recording whose slices jump."""
    y, x = np.mgrid[:32, :32]
    jumps = [0, 3, -2, 2, -3, 1]
    stack = np.stack([np.exp(-((y - 16 - j) ** 2 + (x - 15) ** 2) / 30) for j in jumps])
    path = work / "shaken.tif"
    write_volume(path, stack.astype(np.float32), (0.8, 0.2, 0.2), overwrite=False)
    return path


def steadiness(volume):
    return float(np.abs(np.diff(volume, axis=0)).mean())


def test_slices_are_aligned_if_asked_for_and_stay_what_they_are(shaken, config):
    (plain,), (aligned,) = (
        recorded_samples([shaken], config.params, aligned=wanted) for wanted in (False, True)
    )
    assert steadiness(aligned.image) < 0.6 * steadiness(plain.image)
    np.testing.assert_allclose(aligned.image, align(plain.image)[0].clip(0, 1), atol=1e-6)
    assert aligned.image.mean() == pytest.approx(plain.image.mean(), rel=0.1)
