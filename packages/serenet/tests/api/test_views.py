"""What is done to views from Python is what the commands do."""

import numpy as np
import pytest
import tifffile
import torch

import serenet
from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import open_stack
from serenet.rectification.files import rectify_files
from serenet.rectification.lattice import find_lattice


@pytest.fixture(scope="module")
def camera():
    """Frames (9, 96, 104) of 8 x 8 lenses and more, the radiometry frame, and the dark one."""
    y, x = np.mgrid[:96, :104]
    light = np.cos(np.pi * (y - 6.2) / 9) ** 2 * np.cos(np.pi * (x - 5.7) / 9) ** 2
    frames = np.stack([100 + (10 + t) * 50 * light for t in range(9)])
    return np.rint(frames), np.rint(100 + 2000 * light), np.full((96, 104), 100.0)


@pytest.fixture(scope="module")
def scope():
    return LightFieldMicroscope(
        magnification=40,
        numerical_aperture=0.9,
        refractive_index=1.33,
        wavelength_um=0.5,
        microlens_pitch_um=100,
        microlens_focal_length_um=2000,
        n_num=9,
        scanning=3,
        depths_um=(0.0,),
    )


def test_rectified_frames_are_those_of_the_command(tmp_path, camera, scope):
    paths = [tmp_path / f"{name}.tif" for name in ("raw", "flat", "dark")]
    for path, frames in zip(paths, camera, strict=True):
        tifffile.imwrite(path, frames.astype(np.uint16))
    order = (0, 1, 2, 5, 4, 3, 6, 7, 8)
    for scan_order in (None, order):
        rectify_files(
            paths[:1],
            tmp_path / "views.tif",
            scope,
            radiometry=paths[1],
            dark=paths[2],
            scan_order=scan_order,
            overwrite=True,
        )
        raw, flat, dark = camera
        views = serenet.rectify(raw, flat, scope, dark=dark, scan_order=scan_order)
        stack = open_stack(tmp_path / "views.tif")
        np.testing.assert_array_equal(views, stack.read())
        assert views.voxel_um[1:] == pytest.approx((stack.steps.y_um, stack.steps.x_um), rel=1e-4)
    tensor = serenet.rectify(torch.from_numpy(raw), flat, scope, dark=dark, scan_order=order)
    np.testing.assert_array_equal(tensor.numpy(), views)
    twice = serenet.rectify(np.concatenate([raw, raw]), flat, scope, dark=dark, scan_order=order)
    np.testing.assert_array_equal(twice[1], views)
    told = []
    known = serenet.rectify(
        raw,
        flat,
        scope,
        dark=dark,
        scan_order=order,
        lattice=find_lattice(flat - dark),
        on_progress=lambda *steps: told.append(steps),
    )
    np.testing.assert_array_equal(known, views)
    assert told == [(n, 9) for n in range(1, 10)]


def test_frames_that_do_not_fit_are_named(camera, scope):
    raw, flat, dark = camera
    for call, message in (
        (lambda: serenet.rectify(raw[:4], flat, scope), "a multiple of the 9 scan positions"),
        (lambda: serenet.rectify(raw, raw[0], scope), "raw: the radiometry frame is this very"),
        (lambda: serenet.rectify(raw, raw.mean(0), scope), "raw: the radiometry frame is this"),
        (lambda: serenet.rectify(raw[:, 1:], flat, scope), "raw: frames of"),
        (lambda: serenet.rectify(raw, flat, scope, dark=dark[1:]), "dark: frames of"),
        (lambda: serenet.rectify(raw, dark, scope), "no microlens lattice"),
        (
            lambda: serenet.rectify(
                raw[:, :-1], flat[:-1], scope, lattice=find_lattice(flat - dark)
            ),
            "lattice: of frames of",
        ),
        (lambda: serenet.rectify(raw, flat, serenet.load_microscope("nnum13")), "n_num: 9"),
    ):
        with pytest.raises(UserError, match=message):
            call()


def test_aligned_views_are_not_negative():
    """Bicubic resampling overshoots beside a bright point, where there is next to nothing."""
    views = np.zeros((3, 12, 12), np.float32)
    views[:, 6, 6] = 100
    views[1, 6, 6], views[1, 7, 8] = 0, 100
    aligned = serenet.predao(views, [84, 85, 97], 13, 13 / 3, subpixel=True)
    assert aligned.min() == 0
    assert aligned.max() > 50


def test_wrong_networks_and_shapes_are_named():
    views = np.ones((5, 12, 12), np.float32)
    serene = serenet.load_checkpoint("demo")
    with pytest.raises(UserError, match="takes a vsnet"):
        serenet.virtual_scan(views, serene)
    with pytest.raises(UserError, match="takes a twnet"):
        serenet.correct_motion(views, serene)
    with pytest.raises(UserError, match=r"give \(A, h, w\) and \(A, D, 2\)"):
        serenet.decompose(views, np.ones((4, 3, 2)))


def test_fitted_aberrations_do_not_depend_on_the_kind(light_field):
    microscope = serenet.load_microscope("nnum13")
    views = light_field(49, 24, 21)
    fitted = serenet.fit_aberrations(views, microscope)
    assert set(fitted) == {
        *("astigmatism", "oblique_astigmatism", "coma_x", "coma_y", "trefoil_x", "trefoil_y")
    }
    assert serenet.fit_aberrations(torch.from_numpy(views), microscope) == fitted


def test_comparison_is_that_of_the_command(serenet, tmp_path):
    import serenet as package

    generator = np.random.default_rng(0)
    truth = package.ScaledArray(generator.random((9, 40, 40)), (0.3, 0.1, 0.1))
    result = 5 * truth + generator.normal(0, 1, truth.shape)
    package.write_volume(tmp_path / "truth.tif", truth)
    package.write_volume(tmp_path / "result.tif", result)
    arguments = (tmp_path / "truth.tif", tmp_path / "result.tif", "--out", tmp_path / "out")
    assert serenet("compare", *arguments, "--border", 1, 2, "--blur", 1, 1, 1).code == 0
    (row,) = np.genfromtxt(
        tmp_path / "out/comparison.csv", delimiter=",", names=True, usecols=range(1, 8), ndmin=1
    )
    blur = (1.0, 1.0, 1.0)
    found = package.compare(truth, result, border=(1, 2), blur=blur)
    for name in row.dtype.names:
        np.testing.assert_allclose(getattr(found, name), row[name], rtol=1e-5)
    plain = package.compare(np.asarray(truth), torch.tensor(np.asarray(result)), border=(1, 2))
    assert np.isnan(plain.lateral_um)
    with pytest.raises(UserError, match="shapes"):
        package.compare(truth, result[1:])
    with pytest.raises(UserError, match="does not fit"):
        package.compare(truth, result, border=(5, 0))
