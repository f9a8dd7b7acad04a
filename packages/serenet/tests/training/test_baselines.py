"""VCD-Net, HyLFM-Net, RL-Net and VsNet learn, and what they learned serves the commands."""

import numpy as np
import pytest
import tifffile
import torch
import yaml

from optics import phase_space_psf, presets
from scopekit.errors import UserError
from serenet import build_model, load_checkpoint, save_checkpoint
from serenet.simulation.scenes import write_scenes
from serenet.training.baselines import global_ssim, relative_volume
from serenet.training.run import train_method

N_DEPTHS = 7
SETTINGS = {
    "vcdnet": {"network": {"channels_interp": 32}, "crop": 8, "epochs": 2},
    "hylfmnet": {"crop": 12, "epochs": 5, "learning_rate": 0.0002},
    "rlnet": {"crop": 12, "epochs": 3},
    "vsnet": {"network": {"K": 1, "n_block": 2, "channels": 16}, "crop": 24, "epochs": 10},
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """All 169 views, and volumes of 7 planes, of two scenes."""
    whole = presets["nnum13"].with_middle_depths(N_DEPTHS)
    microscope = whole.with_all_views()
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, range(1, 3), microscope, phase_space_psf(microscope, size=39))
    return folder


def write(path, scenes, method, **changes):
    data = {"views": str(scenes / "views"), "repeat": 4 if method == "vcdnet" else 8}
    if method != "vsnet":
        data["volumes"] = str(scenes / "volumes")
    settings = {
        "method": method,
        "optics": "nnum13",
        "depths": N_DEPTHS,
        "psf_size": 39,
        "data": data,
        "brightness": 1,
        "learning_rate": 0.002,
        "validate_every": 100,
        **SETTINGS[method],
        **changes,
    }
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture(scope="module", params=SETTINGS)
def trained(request, tmp_path_factory, scenes):
    """(method, folder of the run) after a short training."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = write(folder / "settings.yaml", scenes, request.param)
    train_method(settings, folder / "run", device="cpu", resume=False, overwrite=False)
    return request.param, folder / "run"


def test_the_loss_falls(trained):
    method, run = trained
    log = np.genfromtxt(run / "log.csv", delimiter=",", names=True)
    assert log["loss"][-2:].mean() < {"vsnet": 0.97}.get(method, 0.95) * log["loss"][0]
    assert np.isfinite(log["loss"]).all()
    assert any((run / "pictures").glob("*.png"))


def test_the_checkpoint_serves_reconstruct(trained, scenes, serenet, tmp_path):
    method, run = trained
    checkpoint = run / "checkpoints" / "best.pt"
    assert load_checkpoint(checkpoint).method == method
    views = scenes / "views" / "scene0001.tif"
    psf = tmp_path / "psf.h5"
    serenet("psf", "nnum13", "--depths", N_DEPTHS, "--size", 39, "--out", psf)
    out = tmp_path / "out"
    arguments = ("reconstruct", views, "--out", out, "--checkpoint")
    if method == "vsnet":
        refused = serenet(*arguments, checkpoint, "--psf", psf)
        assert (refused.code, "--virtual-scan" in refused.error) == (2, True)
        # An unscanned light field is what its every third pixel shows.
        unscanned = tifffile.imread(views)[:, 1::3, 1::3]
        tifffile.imwrite(tmp_path / "unscanned.tif", unscanned)
        done = serenet(
            *("reconstruct", tmp_path / "unscanned.tif", "--out", out, "--psf", psf),
            *("--checkpoint", "demo", "--virtual-scan", checkpoint),
        )
        result = out / "unscanned_serenet.tif"
    else:
        done = serenet(*arguments, checkpoint, "--psf", psf)
        result = out / f"scene0001_{method}.tif"
    assert done.code == 0, done.err
    volume = tifffile.imread(result)
    assert volume.shape == (N_DEPTHS, 156, 156)
    assert volume.min() >= 0
    assert volume.max() > 0
    assert yaml.safe_load(result.with_suffix(".yaml").read_text())["method"] == (
        "serenet" if method == "vsnet" else method
    )


@pytest.mark.parametrize(
    ("method", "changes", "message"),
    [
        ("vsnet", {"crop": 25}, "crop 25: vsnet needs a multiple of 3"),
        (
            "vcdnet",
            {"network": {"channels_interp": 33}},
            r"wrong\.yaml: network: channels_interp is 33; expected a multiple of 32",
        ),
        ("vcdnet", {"network": {"channels": 32}}, "unexpected keyword argument 'channels'"),
        ("hylfmnet", {"data": {"views": "a"}}, "data.volumes is missing: hylfmnet learns"),
        ("rlnet", {"start_from": "demo"}, "is a serenet with .* not a rlnet"),
        ("vsnet", {"start_from": "demo"}, "is a serenet with .* not a vsnet"),
    ],
)
def test_wrong_settings_are_refused(tmp_path, scenes, method, changes, message):
    settings = write(tmp_path / "wrong.yaml", scenes, method, **changes)
    with pytest.raises(UserError, match=message):
        train_method(settings, tmp_path / "run", device="cpu", resume=False, overwrite=False)
    assert not (tmp_path / "run" / "log.csv").exists()


def test_a_network_of_another_microscope_is_refused(serenet, scenes, tmp_path):
    checkpoint = tmp_path / "hylfm.pt"
    save_checkpoint(checkpoint, build_model("hylfmnet", inChannels=100, outChannels=3))
    views = scenes / "views" / "scene0001.tif"
    refused = serenet("reconstruct", views, "--checkpoint", checkpoint, "--out", tmp_path / "out")
    assert (refused.code, "takes 100 views" in refused.error) == (2, True)


def test_relative_brightness_runs_from_0_to_1():
    volume = torch.arange(1001.0)
    relative = relative_volume(volume, 99.9)
    assert relative.max() == 1
    assert relative[500].item() == pytest.approx(500 / 999, rel=1e-3)
    assert not relative_volume(torch.zeros(5), 99.9).any()


def test_global_ssim_is_1_for_equal_and_small_for_unrelated_volumes():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand((2, 4, 30, 30), generator=generator)
    assert global_ssim(a, a).item() == pytest.approx(1)
    assert abs(global_ssim(a, b).item()) < 0.05
    assert global_ssim(a, 1 - a).item() < -0.9
