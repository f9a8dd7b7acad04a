"""Whatever is wrong with the input: one line that names it, exit code 2, nothing left behind."""

import numpy as np
import pytest
import tifffile
import torch

from optics import phase_space_psf, presets, write_psf
from scopekit.images.files import write_volume

POISON = "cos\nsystem\n(S'touch {}'\ntR."


@pytest.fixture
def refused(serenet, tmp_path, contents):
    """Run a command that must fail and leave nothing; return its line."""

    def call(*arguments, extra_lines=0):
        before = contents(tmp_path)
        outcome = serenet(*arguments)
        assert outcome.code == 2, outcome
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        assert outcome.err.count("\n") == 1 + extra_lines, outcome.err
        assert outcome.err.splitlines()[-1] == outcome.error
        left = [name for name in contents(tmp_path) if name not in before]
        assert left == []
        return outcome.error

    return call


@pytest.fixture
def reconstruct(refused, tmp_path, weights, small_psf):
    """Run ``serenet reconstruct`` on a bad input and return the line."""

    def call(*inputs, psf=("--psf", small_psf), model=weights["serenet"], out=None, **kwargs):
        out = tmp_path / "out" if out is None else out
        arguments = (*inputs, "--checkpoint", model, "--out", out, *psf)
        return refused("reconstruct", *arguments, **kwargs)

    return call


# Views -------------------------------------------------------------------------------------


def test_a_text_file_named_tif(reconstruct, tmp_path):
    path = tmp_path / "views.tif"
    for text in ("x,y\n1,2\n", "", "II"):
        path.write_text(text)
        assert reconstruct(path).startswith(f"error: {path}: ")


@pytest.mark.parametrize("how", ["imagej", "plain", "bigtiff", "compressed"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_truncated_tiffs(reconstruct, tmp_path, light_field, how, share):
    options = {
        "imagej": {"imagej": True},
        "plain": {},
        "bigtiff": {"bigtiff": True},
        "compressed": {"compression": "zlib", "photometric": "minisblack"},
    }[how]
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, light_field(), **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    line = reconstruct(path)
    assert line.startswith(f"error: {path}: ")
    assert "damaged" in line


@pytest.mark.parametrize(
    ("shape", "options", "reason"),
    [
        ((20, 30), {}, "a raw camera frame goes through `serenet rectify` first"),
        ((48, 9, 8), {}, "48 views; this microscope has 169, of which 49"),
        ((7, 48, 9, 8), {"imagej": True, "metadata": {"axes": "TZYX"}}, "48 views"),
        ((49, 9, 8, 3), {"photometric": "rgb"}, "a colour image"),
        ((2, 3, 49, 9, 8), {"imagej": True, "metadata": {"axes": "TZCYX"}}, "by --channel N"),
    ],
)
def test_stacks_of_another_shape(reconstruct, tmp_path, shape, options, reason):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, np.ones(shape, np.uint8), **options)
    line = reconstruct(path)
    assert line.startswith(f"error: {path}: ")
    assert reason in line


def test_complex_numbers(reconstruct, tmp_path):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, np.ones((49, 9, 8), np.complex64))
    assert reconstruct(path).startswith(f"error: {path}: ")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_views_that_are_no_numbers(reconstruct, tmp_path, light_field, value):
    views = light_field()
    views[31, 5, 6] = value
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, views)
    line = reconstruct(path)
    assert line.startswith(f"error: {path}: NaN or infinite values (page 31")


def test_missing_files_and_empty_folders(reconstruct, tmp_path):
    path, folder = tmp_path / "nothing.tif", tmp_path / "folder"
    assert reconstruct(path) == f"error: {path}: no such file or folder; check the path"
    folder.mkdir()
    (folder / "notes.txt").touch()
    assert (
        reconstruct(folder)
        == f"error: {folder}: no file to use in this folder (.tif, .tiff, .btf, .tf2, .tf8, "
        ".nd2, .zarr)"
    )


def test_two_inputs_of_one_name(reconstruct, tmp_path, views_file):
    other = tmp_path / "other" / "views.tiff"
    other.parent.mkdir()
    other.write_bytes(views_file.read_bytes())
    line = reconstruct(views_file, other)
    assert str(views_file) in line
    assert str(other) in line


# Checkpoints -------------------------------------------------------------------------------


def test_checkpoints_of_another_model(reconstruct, tmp_path, views_file):
    path = tmp_path / "other.pth"
    states = [
        {"model": {"name": "twnet", "args": {}, "sd": {"conv_init.weight": torch.ones(3)}}},
        {"model": {"name": "serenet", "args": {}, "sd": {"conv_init.weight": torch.ones(3)}}},
        {"prev0.conv.weight": torch.ones(16, 1, 7, 7, 7), "a": torch.ones(())},
        torch.ones(49, 5, 2),
    ]
    for state in states:
        torch.save(state, path)
        assert reconstruct(views_file, model=path).startswith(f"error: {path}: ")


def test_code_in_a_checkpoint_does_not_run(reconstruct, tmp_path, views_file):
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    path.write_text(POISON.format(trace))
    assert reconstruct(views_file, model=path).startswith(f"error: {path}: ")
    assert not trace.exists()


def test_damaged_checkpoints(reconstruct, tmp_path, views_file, weights):
    path = tmp_path / "cut.pth"
    path.write_bytes(weights["serenet"].read_bytes()[:100_000])
    line = reconstruct(views_file, model=path)
    assert line.startswith(f"error: {path}: not a PyTorch file, or damaged")
    path.unlink()
    assert reconstruct(views_file, model=path).startswith(f"error: {path}: no such file")
    assert reconstruct(views_file, model=tmp_path).startswith(f"error: {tmp_path}: ")
    assert reconstruct(views_file, model=views_file).startswith(f"error: {views_file}: not a Py")


# PSF and preset ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def psf15(tmp_path_factory):
    """A PSF of the other preset."""
    microscope = presets["nnum15"].with_depths((-0.6, 0.0, 0.6))
    path = tmp_path_factory.mktemp("psf15") / "psf15.h5"
    write_psf(path, phase_space_psf(microscope, size=31), microscope)
    return path


def test_the_psf_of_another_preset(reconstruct, views_file, psf15, small_psf, weights):
    line = reconstruct(views_file, psf=("--psf", psf15))
    assert line.startswith(f"error: {psf15}: a PSF of 81 views (n_num 15)")
    line = reconstruct(views_file, psf=("--psf", small_psf, "--microscope", "nnum15"))
    assert line.startswith(f"error: {small_psf}: the PSF of another microscope than the one named")
    line = reconstruct(views_file, psf=("--psf", small_psf), model=weights["serenetup5"])
    assert line.startswith(f"error: {small_psf}: a PSF of 49 views (n_num 13)")
    line = reconstruct(views_file, psf=("--microscope", "nnum15"))
    assert "the checkpoint takes 49 views" in line


def test_damaged_psf_files(reconstruct, tmp_path, views_file, small_psf):
    path = tmp_path / "psf.h5"
    whole = small_psf.read_bytes()
    for content in (b"no HDF5", b"", whole[:2000], whole[: len(whole) // 2], whole[:-4096]):
        path.write_bytes(content)
        line = reconstruct(views_file, psf=("--psf", path))
        assert line.startswith(f"error: {path}: not a PSF file, or damaged")
    path.unlink()
    assert reconstruct(views_file, psf=("--psf", path)).startswith(f"error: {path}: no such file")
    line = reconstruct(views_file, psf=("--psf", views_file))
    assert line.startswith(f"error: {views_file}: a PSF is a .h5, .mat or .pt file")


def test_psf_files_without_what_is_needed(reconstruct, tmp_path, views_file, small_psf):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "psf.h5"
    for spoil in ("psf", "shift", "views", "n_num", "shape", "nan"):
        path.write_bytes(small_psf.read_bytes())
        with h5py.File(path, "r+") as file:
            if spoil == "n_num":
                file.attrs["n_num"] = 12
            elif spoil == "nan":
                file["shift"][3, 2, 1] = np.nan
            else:
                values = None if spoil != "shape" else file["shift"][:, :-1]
                name = "shift" if spoil == "shape" else spoil
                del file[name]
                if values is not None:
                    file["shift"] = values
        line = reconstruct(views_file, psf=("--psf", path))
        assert line.startswith(f"error: {path}: ")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (np.zeros((49, 9, 2)), "9 depths; the microscope has 101"),
        (np.zeros((81, 101, 2)), "81 views; the checkpoint takes 49"),
        (np.zeros((49, 101)), "expected a PSF shift (views, depths, 2), found (49, 101)"),
        (np.full((49, 101, 2), np.nan), "NaN"),
        (np.array(["text"]), "not a NumPy array file, or damaged"),
        (np.array([{}], dtype=object), "not a NumPy array file, or damaged"),
    ],
)
def test_wrong_psf_shifts(reconstruct, tmp_path, views_file, table, reason):
    path = tmp_path / "shift.npy"
    np.save(path, table)
    line = reconstruct(views_file, psf=("--psf-shift", path))
    assert line.startswith(f"error: {path}: ")
    assert reason in line


def test_damaged_psf_shifts(reconstruct, tmp_path, views_file, weights):
    path = tmp_path / "shift.npy"
    np.save(path, np.zeros((49, 101, 2)))
    path.write_bytes(path.read_bytes()[:3000])
    assert reconstruct(views_file, psf=("--psf-shift", path)).startswith(f"error: {path}: not a N")
    path.unlink()
    assert reconstruct(views_file, psf=("--psf-shift", path)).startswith(f"error: {path}: no such")
    line = reconstruct(views_file, psf=("--psf-shift", weights["serenet"]))
    assert line.startswith(f"error: {weights['serenet']}: expected a PSF shift")


def test_unknown_and_wrong_presets(reconstruct, tmp_path, views_file):
    line = reconstruct(views_file, psf=("--microscope", "nnum17"))
    assert line == (
        "error: 'nnum17' is neither a preset (nnum13, nnum15) nor a .yaml file "
        "(see docs/my_microscope.md)"
    )
    path = tmp_path / "scope.yaml"
    assert str(path) in reconstruct(views_file, psf=("--microscope", path))
    good = presets["nnum13"].model_dump(mode="json")
    for change, named in (
        ({"magnifcation": 20}, "magnifcation"),
        ({"numerical_aperture": 1.6}, "numerical_aperture 1.6"),
        ({"n_num": "many"}, "n_num"),
        ({"wavelength_um": -1}, "wavelength_um"),
        ({"depths_um": {"first": 0, "last": 1}}, "depths_um"),
        ({"views": [1, 2, 900]}, "views"),
    ):
        import yaml

        path.write_text(yaml.safe_dump(good | change))
        line = reconstruct(views_file, psf=("--microscope", path))
        assert line.startswith(f"error: {path}: ")
        assert named in line
    for text in ("n_num: [1,", "- 1\n- 2\n", "", "\x00"):
        path.write_text(text)
        assert reconstruct(views_file, psf=("--microscope", path)).startswith(f"error: {path}: ")


def test_psf_and_shift_together(reconstruct, views_file, small_psf):
    psf = ("--psf", small_psf, "--psf-shift", small_psf)
    assert reconstruct(views_file, psf=psf) == (
        f"error: {small_psf} and {small_psf}: a PSF and a PSF shift; give one of them"
    )


# The other commands ------------------------------------------------------------------------


def test_psf_command(refused, tmp_path):
    out = tmp_path / "psf.h5"
    assert "nnum17" in refused("psf", "nnum17", "--out", out)
    assert refused("psf", "nnum13", "--out", tmp_path / "psf.tif").endswith("ending in .h5")
    line = refused("psf", "nnum13", "--out", out, "--depths", 102)
    assert "102 depths: the microscope has 101" in line
    out.write_text("mine")
    assert "add --overwrite" in refused("psf", "nnum13", "--out", out, "--depths", 1)
    assert out.read_text() == "mine"


def test_project_command(refused, tmp_path, small_psf, psf15, light_field):
    volume, out = tmp_path / "volume.tif", tmp_path / "views.tif"
    write_volume(volume, light_field(9), (0.2, 0.12, 0.12), overwrite=False)

    def project(path=volume, psf=small_psf, *more):
        return refused("project", path, "--psf", psf, "--out", out, *more)

    assert "the PSF has 3 depths" in project(psf=psf15)
    assert "--read-noise needs --noise-photons" in project(volume, small_psf, "--read-noise", 1)
    assert project(tmp_path / "no.tif").startswith(f"error: {tmp_path / 'no.tif'}: no such file")
    assert project(small_psf).startswith(f"error: {small_psf}: not a TIFF file")
    assert project(psf=volume).startswith(f"error: {volume}: a PSF is a")
    spoilt = light_field(9)
    spoilt[4, 3, 2] = np.nan
    tifffile.imwrite(volume, spoilt)
    assert project().startswith(f"error: {volume}: NaN")


def test_compare_command(refused, tmp_path, light_field):
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(a, light_field(9))
    tifffile.imwrite(b, light_field(8))
    out = ("--out", tmp_path / "out")
    line = refused("compare", a, b, *out)
    assert line.startswith(f"error: {b}: shape (8, 24, 21); the truth {a} has (9, 24, 21)")
    assert "--border 5 0 does not fit" in refused("compare", a, a, "--border", 5, 0, *out)
    assert refused("compare", a, tmp_path / "c.tif", *out).startswith(
        f"error: {tmp_path / 'c.tif'}"
    )
    negative = refused("compare", a, a, "--border", -1, 0, *out)
    assert "--border" in negative
    assert "--blur" in refused("compare", a, a, "--blur", -1, 0, 0, *out)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none(reconstruct, refused, tmp_path, views_file, small_psf):
    line = reconstruct(views_file, "--device", "cuda")
    assert line.startswith("error: --device cuda: PyTorch finds no CUDA device")
    arguments = ("--psf", small_psf, "--out", tmp_path / "v.tif", "--device", "cuda")
    assert "--device cuda" in refused("project", views_file, *arguments)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_options_that_are_no_numbers(reconstruct, refused, tmp_path, views_file, value):
    assert "background" in reconstruct(views_file, "--background", value)
    blur = ("--out", tmp_path / "out", "--blur", value, 0, 0)
    assert "--blur" in refused("compare", views_file, views_file, *blur)


def test_a_budget_without_end(reconstruct, views_file):
    line = reconstruct(views_file, "--max-memory-gb", "inf")
    assert line == f"error: {views_file}: --max-memory-gb inf: give a number of GB"


@pytest.mark.parametrize("budget", [0.1, 0.15])
def test_too_little_memory(reconstruct, views_file, budget):
    line = reconstruct(views_file, "--max-memory-gb", budget)
    assert line.startswith(f"error: {views_file}: --max-memory-gb {budget:.2f}")
    assert "give" in line
