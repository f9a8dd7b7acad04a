"""What ``serenet reconstruct`` takes and how it treats many inputs and existing results."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import open_psf, presets
from scopekit.images.files import open_stack, write_volume
from serenet import build_model, save_checkpoint

DARK = "no view is brighter than the background"


@pytest.fixture
def reconstruct(serenet, tmp_path, weights, small_psf):
    """Run ``serenet reconstruct`` into ``tmp_path / "out"``."""

    def call(*arguments, psf=("--psf", small_psf), model="serenet", out=tmp_path / "out"):
        arguments = (*arguments, "--checkpoint", weights[model], "--out", out, *psf)
        return serenet("reconstruct", *arguments)

    return call


@pytest.fixture
def result(tmp_path):
    def read(stem="views_serenet", frame=0):
        return open_stack(tmp_path / "out" / f"{stem}.tif").read(frame)

    return read


def settings_of(tmp_path, stem="views_serenet"):
    return yaml.safe_load((tmp_path / "out" / f"{stem}.yaml").read_text())


def assert_close(a, b, tolerance=1e-4):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * np.abs(b).max())


def test_files_and_folders(reconstruct, tmp_path, light_field, contents):
    folder = tmp_path / "many"
    folder.mkdir()
    for seed, name in enumerate(["b.tif", "a.TIFF", "c.tiff"]):
        tifffile.imwrite(folder / name, light_field(seed=seed))
    (folder / "notes.txt").write_text("not a stack")
    (folder / ".b.tif.partial").write_bytes(b"left by a crash")
    tifffile.imwrite(tmp_path / "single.tif", light_field(seed=3))
    outcome = reconstruct(tmp_path / "single.tif", folder, folder / "b.tif", "--no-preview")
    assert outcome.code == 0
    names = [f"{s}_serenet{e}" for s in ("a", "b", "c", "single") for e in (".tif", ".yaml")]
    assert contents(tmp_path / "out") == names


def test_time_is_told_before_the_work(reconstruct, views_file, monkeypatch):
    monkeypatch.setattr("serenet.reconstruction.frame.expected_seconds", lambda *_, **__: 130.0)
    assert reconstruct(views_file).err.startswith("views.tif: about 2 min on this machine\n")


def test_results_in_the_folder_of_the_inputs_are_no_inputs(reconstruct, tmp_path, light_field):
    folder = tmp_path / "out"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", light_field())
    assert reconstruct(folder).code == 0
    tifffile.imwrite(folder / "b.tif", light_field(seed=1))
    outcome = reconstruct(folder)
    assert outcome.code == 0, outcome.err
    assert (folder / "b_serenet.tif").exists()
    assert not list(folder.glob("*_serenet_serenet*"))


def test_a_series_gives_a_series(reconstruct, tmp_path, light_field, result):
    frames = np.stack([light_field(seed=s) * (1 + s) for s in range(3)])
    tifffile.imwrite(tmp_path / "views.tif", frames, imagej=True, metadata={"axes": "TZYX"})
    assert reconstruct(tmp_path / "views.tif").code == 0
    stack = open_stack(tmp_path / "out" / "views_serenet.tif")
    assert stack.shape == (3, 9, 104, 91)
    assert stack.voxel_um == pytest.approx((0.2, 0.1221, 0.1221), rel=1e-3)
    settings = settings_of(tmp_path)
    assert [f["frame"] for f in settings["frames"]] == [0, 1, 2]
    for s in range(3):
        tifffile.imwrite(tmp_path / f"one{s}.tif", frames[s])
        assert reconstruct(tmp_path / f"one{s}.tif").code == 0
        assert_close(result(frame=s), result(f"one{s}_serenet"))


def test_all_views_and_the_subset_give_one_volume(reconstruct, tmp_path, light_field, result):
    whole = light_field(169)
    tifffile.imwrite(tmp_path / "all.tif", whole)
    tifffile.imwrite(tmp_path / "views.tif", whole[list(presets["nnum13"].views)])
    assert reconstruct(tmp_path / "all.tif", tmp_path / "views.tif").code == 0
    assert np.array_equal(result("all_serenet"), result())


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float64])
def test_number_types_on_disk(reconstruct, tmp_path, light_field, result, kind):
    counts = np.rint(light_field() / 2)
    tifffile.imwrite(tmp_path / "views.tif", counts.astype(kind))
    tifffile.imwrite(tmp_path / "float.tif", counts)
    assert reconstruct(tmp_path / "views.tif", tmp_path / "float.tif", "--no-preview").code == 0
    assert np.array_equal(result(), result("float_serenet"))


def test_uint16_results(reconstruct, views_file, tmp_path, result, contents):
    assert reconstruct(views_file).code == 0
    exact = result()
    outcome = reconstruct(views_file, "--dtype", "uint16", "--overwrite")
    assert outcome.code == 0
    factor = settings_of(tmp_path)["uint16_factor"]
    assert f"{factor:.6g}" in outcome.err
    stored = tifffile.imread(tmp_path / "out" / "views_serenet.tif")
    assert stored.dtype == np.uint16
    assert stored.max() == 65535
    assert np.abs(stored / factor - exact).max() <= 0.51 / factor
    assert open_stack(tmp_path / "out" / "views_serenet.tif").voxel_um is not None
    assert len(contents(tmp_path / "out")) == 3


def test_half_precision(reconstruct, views_file, tmp_path, result):
    assert reconstruct(views_file).code == 0
    full = result()
    assert reconstruct(views_file, "--half", "--overwrite", "--no-preview").code == 0
    assert np.corrcoef(full.ravel(), result().ravel())[0, 1] >= 0.999
    assert not np.array_equal(full, result())
    assert settings_of(tmp_path)["precision"] == "half"


def test_background(reconstruct, tmp_path, light_field, result):
    views = light_field()
    tifffile.imwrite(tmp_path / "views.tif", views)
    tifffile.imwrite(tmp_path / "raised.tif", views + 1000)
    files = (tmp_path / "views.tif", tmp_path / "raised.tif")
    # By itself the pedestal does not matter.
    assert reconstruct(*files).code == 0
    assert_close(result("raised_serenet"), result(), 1e-3)
    by_itself = result()
    arguments = ("--background", float(np.quantile(views, 0.01)), "--overwrite")
    assert reconstruct(*files, *arguments).code == 0
    assert_close(result(), by_itself, 1e-2)
    assert np.abs(result("raised_serenet") - by_itself).max() > 0.1 * by_itself.max()
    assert settings_of(tmp_path)["background"] == arguments[1]


def test_dim_views_are_lifted_to_counts(reconstruct, tmp_path, light_field, result):
    views = (light_field() - 100).clip(0)
    views *= 500 / views.max()
    tifffile.imwrite(tmp_path / "views.tif", views)
    tifffile.imwrite(tmp_path / "unit.tif", views / 500)
    outcome = reconstruct(tmp_path / "views.tif", tmp_path / "unit.tif", "--background", 0)
    assert outcome.code == 0
    assert "unit.tif" in outcome.err
    assert "views.tif: brightest" not in outcome.err
    assert_close(result("unit_serenet") * 500, result())
    gain = settings_of(tmp_path, "unit_serenet")["frames"][0]["brightness_gain"]
    assert gain == pytest.approx(500, rel=1e-4)


def test_empty_views_give_a_volume(reconstruct, tmp_path, result):
    tifffile.imwrite(tmp_path / "views.tif", np.full((49, 10, 12), 100, np.uint16))
    assert reconstruct(tmp_path / "views.tif").code == 0
    assert np.isfinite(result()).all()


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_the_psf_shift_alone(
    reconstruct, tmp_path, views_file, small_psf, small_microscope, result, suffix
):
    shift = open_psf(small_psf).read_shift()
    table, optics = tmp_path / f"shift{suffix}", tmp_path / "small.yaml"
    if suffix == ".npy":
        np.save(table, shift.numpy().astype(np.float64))
    else:
        torch.save(shift, table)
    optics.write_text(yaml.safe_dump(small_microscope.model_dump(mode="json")))
    assert reconstruct(views_file).code == 0
    expected = result()
    psf = ("--psf-shift", table, "--microscope", optics)
    assert reconstruct(views_file, "--overwrite", psf=psf).code == 0
    assert_close(result(), expected)


def test_without_a_psf_the_shift_is_computed(
    reconstruct, tmp_path, views_file, small_microscope, result
):
    optics = tmp_path / "small.yaml"
    optics.write_text(yaml.safe_dump(small_microscope.model_dump(mode="json")))
    assert reconstruct(views_file).code == 0
    expected = result()
    outcome = reconstruct(views_file, "--overwrite", psf=("--microscope", optics))
    assert outcome.code == 0
    assert "computing the PSF shift" in outcome.err
    # The file's PSF ends at 39 pixels, which moves the centre of mass a little.
    assert np.corrcoef(result().ravel(), expected.ravel())[0, 1] > 0.98


def test_other_networks_name_their_results(reconstruct, views_file, tmp_path, contents):
    assert reconstruct(views_file, "--no-preview", model="fserenet").code == 0
    assert contents(tmp_path / "out") == ["views_fserenet.tif", "views_fserenet.yaml"]


def test_the_15_x_15_microscope(reconstruct, tmp_path, light_field, serenet):
    psf = tmp_path / "psf15.h5"
    assert serenet("psf", "nnum15", "--out", psf, "--depths", 5, "--size", 31).code == 0
    tifffile.imwrite(tmp_path / "all.tif", light_field(225, 10, 9))
    outcome = reconstruct(tmp_path / "all.tif", psf=("--psf", psf), model="serenetup5")
    assert outcome.code == 0
    stack = open_stack(tmp_path / "out" / "all_serenet.tif")
    assert stack.shape == (5, 50, 45)
    assert stack.voxel_um == pytest.approx((0.6, 0.325, 0.325), rel=1e-4)


def test_existing_results_are_kept(reconstruct, tmp_path, views_file, light_field):
    tifffile.imwrite(tmp_path / "other.tif", light_field(seed=5))
    assert reconstruct(views_file).code == 0
    kept = tmp_path / "out" / "views_serenet.tif"
    before = kept.stat().st_mtime_ns, kept.read_bytes()
    outcome = reconstruct(views_file, tmp_path / "other.tif")
    assert outcome.code == 0
    assert f"{kept} exists: skipped" in outcome.err
    assert (tmp_path / "out" / "other_serenet.tif").exists()
    assert (kept.stat().st_mtime_ns, kept.read_bytes()) == before
    outcome = reconstruct(views_file, tmp_path / "other.tif")
    assert outcome.code == 2
    assert "add --overwrite" in outcome.error
    assert "skipped" not in outcome.err
    assert (kept.stat().st_mtime_ns, kept.read_bytes()) == before
    assert reconstruct(views_file, "--overwrite").code == 0
    assert kept.stat().st_mtime_ns > before[0]


def test_one_broken_file_does_not_stop_the_others(
    reconstruct, tmp_path, views_file, light_field, contents
):
    broken, last = tmp_path / "broken.tif", tmp_path / "last.tif"
    broken.write_bytes(views_file.read_bytes()[:5000])
    tifffile.imwrite(last, light_field(seed=5))
    outcome = reconstruct(views_file, broken, last, "--no-preview")
    assert outcome.code == 2
    lines = [line for line in outcome.err.splitlines() if line.startswith("error:")]
    assert lines[0].startswith(f"error: {broken}: damaged")
    assert lines[1].startswith("error: 1 of 3 inputs failed")
    assert str(broken) in lines[1]
    names = [f"{s}_serenet{e}" for s in ("last", "views") for e in (".tif", ".yaml")]
    assert contents(tmp_path / "out") == names


def test_predao_aligns_the_views_and_maps_their_shifts(
    reconstruct, result, tmp_path, light_field, contents
):
    rows = np.array([divmod(a, 13) for a in presets["nnum13"].views])
    # Whole view pixels, by a rule that no defocus explains.
    moved = np.round(rows[:, ::-1] / 4).astype(int) - 1
    still = np.broadcast_to(light_field()[:1], (49, 24, 21)).copy()
    views = np.stack([np.roll(v, s, (0, 1)) for v, s in zip(still, moved, strict=True)])
    tifffile.imwrite(tmp_path / "views.tif", np.stack([views, views]), metadata={"axes": "TCYX"})
    outcome = reconstruct(tmp_path / "views.tif", "--predao", "--predao-by", "subpixel")
    assert outcome.code == 0
    names = contents(tmp_path / "out")
    for frame in (0, 1):
        assert f"views_serenet_shifts_{frame:04d}.png" in names
        assert f"views_serenet_shifts_{frame:04d}.csv" in names
    found = np.genfromtxt(
        tmp_path / "out" / "views_serenet_shifts_0001.csv", delimiter=",", names=True
    )
    assert len(found) == 49
    assert np.abs(found["dy_pixel"]).max() > 1
    settings = settings_of(tmp_path)
    assert settings["predao"] == "subpixel"
    assert settings["frames"][0]["predao"]["largest_shift_pixels"] > 1
    assert result(frame=1).min() >= 0


def test_fitted_aberrations_are_told(reconstruct, tmp_path, views_file):
    assert reconstruct(views_file, "--predao").code == 0
    (frame,) = settings_of(tmp_path)["frames"]
    assert set(frame["predao"]["waves_rms"]) >= {"astigmatism", "coma_x"}
    refused = reconstruct(views_file, "--predao-by", "subpixel", "--overwrite")
    assert refused.error == "error: --predao-by subpixel has no effect without --predao: add that"
    assert (tmp_path / "out" / "views_serenet_shifts.png").exists()


def test_networks_without_volumes_are_refused(serenet, tmp_path, views_file, contents):
    arguments = ("reconstruct", views_file, "--out", tmp_path / "out", "--checkpoint")
    refused = serenet(*arguments, "demo_twnet")
    assert "give it to serenet correct-motion --checkpoint" in refused.error
    checkpoint = tmp_path / "vsnet.pt"
    model = build_model("vsnet", angRes=3, K=1, n_block=1, channels=2)
    save_checkpoint(checkpoint, model)
    # 3 x 3 views are not those of the preset.
    refused = serenet(*arguments, "demo", "--microscope", "nnum13", "--virtual-scan", checkpoint)
    assert "not a vsnet for 13 x 13 views" in refused.error
    assert contents(tmp_path / "out") == []


def test_relative_brightness_cannot_be_refined(serenet, tmp_path, views_file, small_psf):
    checkpoint = tmp_path / "rlnet.pt"
    save_checkpoint(checkpoint, build_model("rlnet"))
    arguments = ("reconstruct", views_file, "--out", tmp_path / "out", "--checkpoint", checkpoint)
    assert "give that, or a PSF file that tells it" in serenet(*arguments).error
    assert (
        "--refine: a rlnet gives relative"
        in serenet(*arguments, "--psf", small_psf, "--refine", 2).error
    )


def test_the_pixels_tell_whether_a_light_field_is_scanned(
    reconstruct, serenet, tmp_path, light_field, weights, small_microscope, random_model
):
    scanned_um = small_microscope.view_pixel_um
    fine, coarse, few = (tmp_path / f"{name}.tif" for name in ("fine", "coarse", "few"))
    write_volume(fine, light_field(169, 6, 6), (1.0, scanned_um, scanned_um), overwrite=False)
    unscanned = (1.0, 3 * scanned_um, 3 * scanned_um)
    write_volume(coarse, light_field(169, 6, 6), unscanned, overwrite=False)
    write_volume(few, light_field(49, 6, 6), unscanned, overwrite=False)
    model = build_model("vsnet", angRes=13, K=1, n_block=1, channels=2)
    save_checkpoint(tmp_path / "vsnet.pt", model)
    virtual = ("--virtual-scan", tmp_path / "vsnet.pt", "--overwrite")
    assert "warning" not in reconstruct(fine, "--overwrite").err
    assert "not scanned, it seems: give --virtual-scan" in reconstruct(coarse, "--overwrite").err
    assert "warning" not in reconstruct(coarse, *virtual).err.replace(DARK, "")
    assert "scanned already, it seems: no virtual scan" in reconstruct(fine, *virtual).err
    assert "49 views; all 169 of this microscope are needed" in reconstruct(few, *virtual).error


def test_uniform_views_are_told(reconstruct, tmp_path):
    level = 100 + np.arange(49, dtype=np.float32)[:, None, None]
    flat = level * (1 + 1e-7 * np.random.default_rng(0).standard_normal((49, 6, 6)))
    tifffile.imwrite(tmp_path / "flat.tif", flat.astype(np.float32))
    assert f"warning: {tmp_path / 'flat.tif'}: every view is of one brightness" in (
        reconstruct(tmp_path / "flat.tif").err
    )
    noisy = np.random.default_rng(0).poisson(np.broadcast_to(level, (49, 6, 6)))
    tifffile.imwrite(tmp_path / "noisy.tif", noisy.astype(np.float32))
    assert "of one brightness" not in reconstruct(tmp_path / "noisy.tif").err


def test_dark_views_are_told(reconstruct, tmp_path):
    tifffile.imwrite(tmp_path / "dark.tif", np.zeros((49, 6, 6), np.float32))
    outcome = reconstruct(tmp_path / "dark.tif")
    assert outcome.code == 0
    assert f"warning: {tmp_path / 'dark.tif'}: {DARK}" in outcome.err
