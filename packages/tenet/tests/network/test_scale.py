"""The scale of recordings, and the microscope that they were made with."""

import numpy as np
import pytest
import torch

from scopekit.images.plane_file import PlaneFile
from tenet.config.files import load_config
from tenet.data.small_phantom import tubes_and_solids
from tenet.enhancement.stack import enhance
from tenet.microscope.bank import sections_at, with_na
from tenet.microscope.imaging import Microscope
from tenet.network.microscope_fit import FoundMicroscope, Noise, find_microscope
from tenet.network.scale import MIDDLE, find_scale, inside, part_in_scale
from tenet.network.weights import load_model

SHAPE = (64, 48, 48)


@pytest.fixture(scope="module")
def model():
    return load_model("demo_pretrain")


def recorded(model, seed=0, factor=1.0, shape=SHAPE):
    """A recording (Z, Y, X) of a phantom, by a microscope of another aperture."""
    _, bright = tubes_and_solids(seed, shape)
    (section,) = sections_at(model.params, [factor])
    params = model.params
    noise = torch.tensor(params.poisson_weight), torch.tensor(params.sig_eps)
    microscope = Microscope(model.image, section, *noise)
    return microscope.record(torch.from_numpy(bright)[None, None], [seed])[0, 0].numpy()


def test_the_scale_follows_the_unit_of_the_recording(model):
    image = recorded(model)
    found = find_scale(model, image)
    counts = find_scale(model, 3000 * image + 100)
    np.testing.assert_allclose(np.array(counts), 3000 * np.array(found) + 100, rtol=1e-3)


def test_what_is_found_is_of_middling_brightness(model):
    for seed in range(3):
        found = enhance(model, recorded(model, seed))
        light = found.structure * found.brightness
        mean = (light * found.brightness).sum() / light.sum()
        assert mean == pytest.approx(MIDDLE, abs=0.08)


def test_enhancing_finds_the_scale(model):
    image = recorded(model)
    found = find_scale(model, image)
    told = enhance(model, image, value_range=found)
    for factor in (1, 5000):
        own = enhance(model, factor * image)
        torch.testing.assert_close(own.structure, told.structure, rtol=0, atol=2e-3)
    published = model.params.model_copy(update={"any_scale": False})
    try:
        trained, model.params = model.params, published
        ranged = enhance(model, image, value_range=(float(image.min()), float(image.max())))
        np.testing.assert_allclose(enhance(model, image).structure, ranged.structure, atol=1e-6)
    finally:
        model.params = trained


def test_files_are_read_by_planes(model, tmp_path):
    image = recorded(model)
    file = PlaneFile.create(tmp_path / "image.tif", image.shape, np.float32, (0.8, 0.2, 0.2))
    file[:,] = image
    assert find_scale(model, file) == find_scale(model, image)


def test_hot_voxels_and_noise_do_not_count(model):
    image = recorded(model)
    hot = image.copy()
    hot[3, 20, 20] = 40 * image.max()
    found, with_hot = find_scale(model, image), find_scale(model, hot)
    # Smoothing over 25 voxels leaves some of it.
    assert with_hot[1] < 3 * found[1]
    assert find_scale(model, np.full(SHAPE, 7.0, np.float32)) is None


@pytest.mark.parametrize("unit", [1.0, 3000.0])
def test_noise_is_not_stretched_into_objects(model, unit):
    rng = np.random.default_rng(2)
    image = np.zeros((20, 64, 64))
    image[8:12, 30:34, 30:34] = 0.06  # hardly above the noise
    noise = 0.02 * rng.standard_normal(image.shape)
    zero, one = find_scale(model, (unit * (image + noise)).astype(np.float32))
    assert 0.02 * unit < 0.05 * (one - zero)
    clear, wide = (find_scale(model, (f * image + noise).astype(np.float32)) for f in (1, 30))
    assert wide[1] - wide[0] > 3 * (clear[1] - clear[0])


def test_dim_tissue_around_bright_objects_counts_little(model):
    bright = np.zeros((80, 64, 64), np.float32)
    z, y, x = np.ogrid[:80, :64, :64]
    bright[(z - 40) ** 2 + (y - 40) ** 2 + (x - 32) ** 2 < 36] = 1
    alone = bright.copy()
    bright[:, 8:10] = 0.05  # ten times the volume, half the light
    with torch.no_grad():
        images = (
            model.image(torch.from_numpy(v)[None, None], model.image.analytic)[0, 0].numpy()
            for v in (alone, bright)
        )
        (_, one), (_, with_tissue) = (find_scale(model, image) for image in images)
    assert one / 2.5 < with_tissue <= 1.1 * one


def test_a_stack_of_one_column_has_a_scale(model):
    zero, one = find_scale(model, recorded(model)[:, :, :1])
    assert zero < one


def test_the_border_does_not_count(model):
    image = torch.zeros(1, 1, 20, 48, 48)
    box = inside(model, image)
    assert [s.stop - s.start for s in box[2:]] == [10, 28, 28]
    small = inside(model, torch.zeros(1, 1, 4, 8, 8))
    assert [s.stop - s.start for s in small[2:]] == [2, 4, 4]


def test_apertures_are_found_and_rise(model):
    found = []
    for factor in (0.85, 1.0, 1.15):
        images = [
            part_in_scale(model, recorded(model, seed, factor, (80, 64, 64))) for seed in (11, 12)
        ]
        found.append(find_microscope(model, images))
    factors = [f.factor for f in found]
    assert factors == sorted(factors)
    assert factors == pytest.approx([0.85, 1.0, 1.15], abs=0.08)
    assert all(f.noise.a > 0 and f.noise.sigma > 0 for f in found)


def test_what_was_found_in_words():
    found = FoundMicroscope(0.9, 0.95, Noise(0.05, 0.01), is_certain=True)
    assert found.told(0.7) == (
        "numerical aperture 0.63 fits best, 0.7 configured; noise of 0.05 times the "
        "intensity, and 0.01"
    )
    noisy = FoundMicroscope(1, 1, Noise(12.9, 0.0001), is_certain=True).told(0.7)
    assert "12.9 times the intensity, and 0.0001: the recordings hold little but noise" in noisy
    assert "do not tell, 0.7 stays" in FoundMicroscope(1, 1, Noise(0, 0.01), is_certain=False).told(
        0.7
    )


def test_a_gaussian_microscope_gets_narrower():
    params = load_config("demo").params.model_copy(update={"blur_mode": "gaussian"})
    wide, narrow = sections_at(params, [0.8, 1.2])
    assert float(narrow.sum()) < float(wide.sum())
    assert with_na(params, 2.0).bet_z == params.bet_z / 4
