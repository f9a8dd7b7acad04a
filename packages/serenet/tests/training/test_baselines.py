"""VCD-Net, HyLFM-Net, RL-Net and VsNet learn, and what they learned serves the commands."""

import numpy as np
import pytest
import tifffile
import torch
import torch.nn.functional as F
import yaml

from optics import phase_space_psf, presets
from scopekit.errors import UserError
from scopekit.metrics import correlation, psnr
from serenet import build_model, decompose, load_checkpoint, save_checkpoint
from serenet.reconstruction.volume import reconstruct
from serenet.simulation.training_scenes import write_scenes
from serenet.training.baselines import (
    FromRefocused,
    FromViews,
    VirtualScanning,
    global_ssim,
)
from serenet.training.recipe import Task
from serenet.training.run import train_method
from serenet.training.settings import TrainingSettings
from serenet.virtual_scanning.scan import virtual_scan

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
    write_scenes(
        folder, "small", range(1, 3), microscope, phase_space_psf(microscope, size=39), keep=False
    )
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


def test_global_ssim_is_1_for_equal_and_small_for_unrelated_volumes():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand((2, 4, 30, 30), generator=generator)
    assert global_ssim(a, a).item() == pytest.approx(1)
    assert abs(global_ssim(a, b).item()) < 0.05
    assert global_ssim(a, 1 - a).item() < -0.9


def test_the_psnr_of_the_log_is_that_of_compare():
    views = 100 + np.random.default_rng(0).random((169, 24, 24), dtype=np.float32)

    class OneField:
        visits = (0,)

        def __len__(self):
            return 1

        def middle(self, index):
            return 0, 0

        def views(self, index, origin):
            return views

    settings = TrainingSettings.model_validate(
        {"method": "vsnet", "optics": "nnum13", "data": {"views": "."}, "crop": 24}
    )
    model = build_model("vsnet", K=1, n_block=2, channels=16).eval()
    task = Task(OneField(), OneField(), settings)
    found = VirtualScanning(model, presets["nnum13"].with_all_views(), task).validate()
    virtual = virtual_scan(torch.from_numpy(views[:, 1::3, 1::3]), model)
    assert found.scores["psnr"] == pytest.approx(psnr(views, virtual.numpy()))


class Scene:
    """One light field of 169 views and its volume of three planes; crops are their corner."""

    visits = (0,)

    def __init__(self):
        self.fields = [type("Field", (), {"source": "scene"})]
        rng = np.random.default_rng(0)
        self.light_field = rng.gamma(2, 50, (169, 24, 24)).astype(np.float32)
        self.light_field[:, 12:] *= 5  # brightest outside the crop
        self.truth = rng.gamma(1, 40, (3, 104, 104)).astype(np.float32)
        self.truth[:, :, 52:] *= 3

    def __len__(self):
        return 1

    def random_origin(self, index, rng):
        return 0, 0

    def middle(self, index):
        return 0, 0

    def views(self, index, origin):
        return self.light_field[:, :12, :12]

    def field(self, index):
        return self.light_field

    def volume(self, index, origin):
        return self.truth[:, :52, :52]

    def whole_volume(self, index):
        return self.truth


def task(scene, method, **changes):
    settings = {"method": method, "optics": "nnum13", "data": {"views": ".", "volumes": "."}}
    quiet = {"crop": 12, "brightness": 1, "noise": {"variance": 0}}
    return Task(scene, scene, TrainingSettings.model_validate(settings | quiet | changes))


MICROSCOPE = presets["nnum13"].with_middle_depths(3).with_all_views()


def from_views(scene, network=None, **changes):
    network = network or torch.nn.Linear(1, 1)
    return FromViews(network, MICROSCOPE, task(scene, "hylfmnet", **changes))


def from_refocused(scene, **changes):
    shift = torch.full((169, 3, 2), 2.5)
    model = build_model("rlnet").eval()
    return FromRefocused(model, MICROSCOPE, task(scene, "rlnet", **changes), psf_shift=shift)


def relative(scene, percentile):
    """Return the volume of the crop, the percentile of the whole volume at 1."""
    top = np.percentile(scene.truth, percentile)
    return np.clip(scene.truth[:, :52, :52] / (top + 1e-3), 0, 1)


def seen_by_views(scene):
    """Return the crop of the views, their 10 and 99.9 percentiles at 0 and 1."""
    low, high = np.percentile(scene.light_field, (10, 99.9)).astype(np.float32)
    return np.clip((scene.light_field[:, :12, :12] - low) / (high - low + 1e-3), 0, 1)


# Losses ------------------------------------------------------------------------------------


def test_view_networks_compare_relative_brightness_of_the_whole_stack():
    scene, seen = Scene(), []

    def network(inputs, scale):
        seen.append((inputs, scale))
        return torch.full((1, 1, 3, 52, 52), 0.25), None

    recipe = from_views(scene, balance={"epochs": 0})
    terms = recipe.losses(network, [recipe.sample(0, np.random.default_rng(0))])
    assert seen[0][1] == pytest.approx(13 / 3)
    np.testing.assert_allclose(seen[0][0][0], seen_by_views(scene), atol=1e-5)
    expected = np.square(relative(scene, 99.9) - 0.25).mean()
    assert list(terms) == ["mse"]
    assert float(terms["mse"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("make", [from_views, from_refocused])
def test_a_dimmed_crop_is_as_bright_relative_to_its_dimmed_stack(make):
    recipe = make(Scene(), brightness=0.1)
    one, other = (recipe.sample(0, np.random.default_rng(seed)) for seed in (1, 2))
    torch.testing.assert_close(one.inputs, other.inputs, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(one.target, other.target)


def test_the_offset_of_the_noise_is_no_brightness_of_views():
    offset, none = (
        from_views(Scene(), noise={"variance": 0, "mean": m}).sample(0, np.random.default_rng(1))
        for m in (100, 0)
    )
    torch.testing.assert_close(offset.inputs, none.inputs, rtol=1e-4, atol=1e-5)


def few_bright(prediction, epoch=0, **balance):
    """Return the terms of a flat prediction of a volume of which 1 % is 1, the rest 0.01."""
    scene = Scene()
    scene.truth[:] = 0.01 * 1000
    scene.truth[:, ::10, ::10] = 1000
    recipe = from_views(scene, **({"balance": balance} if balance else {}))
    recipe.begin_epoch(epoch)
    volume = torch.full((1, 1, 3, 52, 52), prediction)
    return recipe.losses(lambda *_: (volume, None), [recipe.sample(0, np.random.default_rng(0))])


def test_bright_and_dark_voxels_count_alike_in_the_first_50_epochs():
    for epoch in (0, 49):
        terms = {name: float(term) for name, term in few_bright(0.3, epoch).items()}
        assert terms == pytest.approx({"bright": 0.7**2, "dark": 0.29**2}, rel=1e-3)
    assert list(few_bright(0.3, 50)) == ["mse"]
    assert list(few_bright(0.3, 3, epochs=3)) == ["mse"]


def test_all_dark_is_no_solution_of_the_balanced_loss():
    values = [0.0, 0.25, 0.5, 0.75, 1.0]
    balanced = [float(sum(few_bright(v).values())) for v in values]
    plain = [float(few_bright(v, 50)["mse"]) for v in values]
    assert values[int(np.argmin(balanced))] == 0.5
    assert values[int(np.argmin(plain))] == 0


def test_the_threshold_tells_bright_from_dark():
    terms = few_bright(0.3, epochs=50, threshold=0.005)
    assert float(terms["dark"]) == 0  # of no voxel
    share = (0.7**2 + 99 * 0.29**2) / 100
    assert float(terms["bright"]) == pytest.approx(share, rel=0.05)


def test_a_run_balances_its_first_epochs_and_goes_on_with_that(scenes, tmp_path):
    changes = {"balance": {"epochs": 1}, "data": {"views": str(scenes / "views")}}
    changes["data"]["volumes"] = str(scenes / "volumes")
    settings = write(tmp_path / "settings.yaml", scenes, "hylfmnet", **changes | {"epochs": 2})
    train_method(settings, tmp_path / "run", device="cpu")
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)
    assert np.isfinite(log["loss_bright"]).tolist() == [True, False]
    assert np.isfinite(log["loss_mse"]).tolist() == [False, True]
    settings = write(tmp_path / "more.yaml", scenes, "hylfmnet", **changes | {"epochs": 3})
    train_method(settings, tmp_path / "run", device="cpu", resume=True)
    log = np.genfromtxt(tmp_path / "run" / "log.csv", delimiter=",", names=True)
    assert np.isfinite(log["loss_bright"]).tolist() == [True, False, False]


def test_the_loss_of_rlnet_is_that_of_the_paper():
    scene, given = Scene(), {}

    def network(inputs):
        given["inputs"] = inputs.numpy()
        result = torch.rand(1, 2, 3, 52, 52, generator=torch.Generator().manual_seed(0))
        given["estimate"], given["result"] = result[0].numpy()
        return result

    recipe = from_refocused(scene)
    terms = recipe.losses(network, [recipe.sample(0, np.random.default_rng(0))])
    truth = relative(scene, 99.99)
    inputs, estimate, result = given["inputs"][0], given["estimate"], given["result"]
    views = np.clip(scene.light_field / np.percentile(scene.light_field, 99.99), 0, 1)[:, :12, :12]
    refocused = decompose(torch.from_numpy(views), torch.full((169, 3, 2), 2.5 * 3 / 13)).mean(0)
    resized = F.interpolate(refocused[None], size=(52, 52), mode="bilinear")[0]
    np.testing.assert_allclose(inputs, resized, atol=1e-5)
    wanted = 0.2 * inputs + 0.8 * truth
    assert float(terms["estimate"]) == pytest.approx(
        0.1 * np.square(estimate - wanted).mean(), rel=1e-4
    )
    assert float(terms["mse"]) == pytest.approx(np.square(result - truth).mean(), rel=1e-4)
    likeness = float(global_ssim(torch.from_numpy(result), torch.from_numpy(truth)))
    assert float(terms["ssim"]) == pytest.approx(-np.log((1 + likeness) / 2), rel=1e-4)


def test_validation_takes_the_percentiles_of_the_whole_stack():
    scene = Scene()
    network = build_model("hylfmnet", inChannels=169, outChannels=3).eval()
    recipe = from_views(scene, network)
    with torch.no_grad():
        volume = network(torch.from_numpy(seen_by_views(scene))[None], 13 / 3)[0, 0]
        found = recipe.validate()
    torch.testing.assert_close(torch.from_numpy(found.volumes["reconstructed"]), volume)
    expected = correlation(scene.truth[:, :52, :52], volume.numpy())
    assert found.scores["correlation"] == pytest.approx(expected)


def test_rlnet_is_judged_on_a_crop_of_what_reconstruct_makes_of_the_field():
    scene = Scene()
    recipe = from_refocused(scene)
    views = torch.from_numpy(scene.light_field)
    with torch.no_grad():
        crop = recipe.validate().volumes["reconstructed"]
        whole = reconstruct(views, recipe.model, torch.full((169, 3, 2), 2.5), 13 / 3)
    # Beyond, the views from outside the crop are missing.
    np.testing.assert_allclose(crop[:, :20, :20], whole[:, :20, :20], rtol=1e-4, atol=1e-5)


def test_an_unscanned_light_field_is_the_middle_pixel_of_every_scan():
    scene = Scene()
    model = build_model("vsnet", K=1, n_block=1, channels=4)
    settings = task(scene, "vsnet", data={"views": "."})
    recipe = VirtualScanning(model, presets["nnum13"].with_all_views(), settings)
    crop = recipe.sample(0, np.random.default_rng(0))
    views = scene.light_field[:, :12, :12]
    np.testing.assert_array_equal(crop.inputs, views[:, 1::3, 1::3])
    np.testing.assert_array_equal(crop.target, views)
