import json

import numpy as np
import pytest
import tifffile
import torch

from optics import OpticsError, section_to_kernel
from scopekit.errors import UserError
from scopekit.images.files import open_frames, open_stack
from tenet.config.files import load_config
from tenet.microscope.psf import Profiles, draw_sections, write_psf

NAMES = ["small_psf_analytic.tif", "small_psf_kernel.tif", "small_psf_neural.tif", "small_psf.png"]
SMALL = {
    "hidden_channels_list": [4, 8],
    "scale": 4,
    "size_z": 41,
    "size_y": 21,
    "size_x": 15,
    "NA": 0.7,
    "wavelength": 0.9,
    "ns": 1.4,
    "ng0": 1.5,
    "ng": 1.5,
    "ni0": 1.33,
    "ni": 1.33,
    "ti0": 150,
    "tg0": 170,
    "tg": 170,
    "pZ": 0,
    "res_lateral": 0.1,
    "res_axial": 0.8,
}


@pytest.fixture
def config(tmp_path):
    """Return ``config(**params)``: writes a configuration of a small PSF."""

    def write(**changes):
        path = tmp_path / "small.json"
        content = {"pretrained_model": "none", "params": {**SMALL, **changes}}
        path.write_text(json.dumps(content), encoding="utf-8")
        return path

    return write


def widths(told):
    """Return the analytic PSF's lateral and axial width among what is told."""
    (line,) = (line for line in told if line.startswith("FWHM, analytic"))
    return np.array([float(word) for word in line.split() if word[0].isdigit()])


def test_writes_sections_kernel_and_picture(tenet, config, tmp_path):
    out = tmp_path / "out"
    done = tenet("psf", config(), "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)

    analytic, neural, kernel = (
        tifffile.imread(out / f"small_psf_{name}.tif") for name in ("analytic", "neural", "kernel")
    )
    assert analytic.squeeze().shape == neural.squeeze().shape == (10, 14)
    assert analytic.max() == 1
    error = float(np.square(neural - analytic).mean())
    assert error <= 1e-5
    assert f"mean squared error {error:.2e}" in done.stdout
    assert kernel.shape == (41, 21, 15)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert open_stack(out / "small_psf_kernel.tif").voxel_um == pytest.approx((0.2, 0.1, 0.1))
    section = open_frames(out / "small_psf_neural.tif")
    assert (section.steps.y_um, section.steps.x_um) == pytest.approx((0.8, 0.1))
    # An Airy disc's width is 0.514 wavelengths over the NA.
    one = widths(done.stdout.splitlines())
    assert one[0] == pytest.approx(0.514 * 0.9 / 0.7, rel=0.02)

    again = tenet("psf", config(), "--out", out, "--photons", "2", "--overwrite")
    assert again.returncode == 0
    # The root of 2, as for Gaussians.
    np.testing.assert_allclose(one / widths(again.stdout.splitlines()), np.sqrt(2), rtol=0.05)


def test_the_configuration_tells_photons_and_the_seed_the_fit(config, tmp_path):
    told, files = [], []
    for number, (photons, seed) in enumerate([(1, 0), (1, 0), (1, 1), (2, 0)]):
        settings = load_config(config(photons=photons))
        out = tmp_path / str(number)
        told.append(widths(write_psf(settings, out, seed=seed, overwrite=False)))
        files.append(tifffile.imread(out / "small_psf_neural.tif"))
    np.testing.assert_array_equal(files[0], files[1])
    assert not np.array_equal(files[0], files[2])
    np.testing.assert_array_equal(told[0], told[2])
    assert (told[3] < told[0]).all()


@pytest.mark.parametrize(("superres", "planes", "step"), [(True, 41, 0.2), (False, 10, 0.8)])
def test_the_kernel_is_of_the_neural_psf_in_steps_of_the_result(
    config, tmp_path, superres, planes, step
):
    # Few hidden units and a loose fit: the two sections differ.
    settings = load_config(config(superres=superres, mid=8, nipsf_loss_target=1e-3))
    write_psf(settings, tmp_path / "out", seed=0, overwrite=False)
    analytic, neural, kernel = (
        tifffile.imread(tmp_path / "out" / f"small_psf_{name}.tif").squeeze()
        for name in ("analytic", "neural", "kernel")
    )
    size = (planes, 21, 15)
    expected, other = (section_to_kernel(torch.from_numpy(s), size) for s in (neural, analytic))
    np.testing.assert_allclose(kernel, expected.numpy(), atol=1e-7)
    assert np.abs(kernel - other.numpy()).max() > 1e-5
    voxel_um = open_stack(tmp_path / "out" / "small_psf_kernel.tif").voxel_um
    assert voxel_um == pytest.approx((step, 0.1, 0.1))


def test_the_difference_is_the_second_less_the_first():
    one, other = (Profiles(np.full((21, 6), v, np.float32), 0.5, 0.1) for v in (0.2, 0.7))
    figure = draw_sections({"one": one, "other": other}, "PSF")
    shown = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes[:3]}
    assert list(shown) == ["one", "other", "other - one"]
    for title, value in (("one", 0.2), ("other", 0.7), ("other - one", 0.5)):
        np.testing.assert_allclose(shown[title], value, rtol=1e-5)


def test_failures_are_one_line_and_leave_nothing(tenet, config, tmp_path):
    failed = tenet("psf", config(pZ=20, NA=1.1), "--out", tmp_path / "out")
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "not symmetric about the focus" in failed.stderr
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_hopeless_fits_say_what_to_change(config, tmp_path):
    with pytest.raises(OpticsError, match=r"in 5 starts: give it more hidden units \(mid\)"):
        write_psf(load_config(config(mid=1)), tmp_path / "out", seed=0, overwrite=False)
    assert not (tmp_path / "out").exists()


def test_results_are_not_replaced_unasked(config, tmp_path):
    tmp_path.joinpath(NAMES[-1]).write_text("mine", encoding="utf-8")
    settings = load_config(config())
    with pytest.raises(UserError, match=f"{NAMES[-1]} exists: add `overwrite=True`"):
        write_psf(settings, tmp_path, seed=0, overwrite=False)
    assert not tmp_path.joinpath(NAMES[0]).exists()
    write_psf(settings, tmp_path, seed=0, overwrite=True)
    assert tmp_path.joinpath(NAMES[-1]).read_bytes()[:4] == b"\x89PNG"


def test_widths_of_a_gaussian():
    z, r = np.arange(-10, 11)[:, None] * 0.5, np.arange(30) * 0.1
    section = np.exp(-(z**2) / (2 * 1.0**2) - r**2 / (2 * 0.4**2)).astype(np.float32)
    profiles = Profiles(section, 0.5, 0.1)
    assert profiles.focus == 10
    assert profiles.axial_fwhm_um == pytest.approx(2.355, rel=0.02)
    assert profiles.lateral_fwhm_um == pytest.approx(0.942, rel=0.02)


def test_widths_beyond_the_section_are_not_told():
    profiles = Profiles(np.ones((3, 4), np.float32), 1, 1)
    assert profiles.axial_fwhm_um is None
    assert profiles.lateral_fwhm_um is None


def test_profiles_fill_their_own_range():
    profiles = Profiles(np.ones((21, 6), np.float32), axial_um=0.5, lateral_um=0.1)
    figure = draw_sections({"one": profiles, "other": profiles}, "PSF")
    limits = [axes.get_xlim() for axes in figure.axes if axes.get_ylabel() == "PSF"]
    np.testing.assert_allclose(limits, [(-0.5, 0.5), (-5, 5)])
