"""``serenet train`` for TW-Net: data of every kind, the run's folder, what is refused."""

import numpy as np
import pytest
import tifffile
import yaml

from scopekit.errors import UserError
from scopekit.images.files import write_volume
from serenet import load_checkpoint
from serenet.training.motion_views import read_scanned_views
from serenet.training.sections import Data

TINY = {
    "method": "twnet",
    "optics": "nnum13",
    "depths": 3,
    "psf_size": 27,
    "network": {"channels": [4, 8]},
    "data": {"simulated": 1, "repeat": 6},
    "validation": {"simulated": 1},
    "crop": 54,
    "learning_rate": 0.003,
    "epochs": 2,
    "validate_every": 1,
}


@pytest.fixture
def run(serenet, tmp_path):
    """Train with these changes to `TINY`; return what the command left behind."""

    def call(*arguments, **changes):
        path = tmp_path / "settings.yaml"
        path.write_text(yaml.safe_dump(TINY | changes))
        return serenet("train", path, "--out", tmp_path / "run", "--device", "cpu", *arguments)

    return call


@pytest.fixture
def recorded(tmp_path):
    """Make a folder of view stacks; return it and the values."""

    def make(name, shape, seed=0):
        values = np.random.default_rng(seed).uniform(10, 500, shape).astype(np.float32)
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if len(shape) == 4:
            write_volume(path, values, (1.0, 1.0, 1.0), overwrite=True)
        else:
            tifffile.imwrite(path, values)
        return path.parent, values

    return make


def test_a_run_on_simulated_scenes(run, serenet, tmp_path):
    outcome = run()
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "run"
    best = folder / "checkpoints" / "best.pt"
    assert f"{best}: use it with serenet correct-motion" in outcome.err
    log = np.genfromtxt(folder / "log.csv", delimiter=",", names=True)
    assert (log["loss"] > 0).all()
    assert np.isfinite(log["psnr"]).all()
    assert np.isfinite(log["gain"]).all()
    assert len([*(folder / "pictures").glob("*.png")]) == 2
    assert load_checkpoint(best).published_args == {"channels": [4, 8]}
    views = folder / "simulated" / "training" / "views" / "scene0001.tif"
    arguments = ("--checkpoint", best, "--out", tmp_path / "out")
    assert serenet("correct-motion", views, *arguments).code == 0


def test_central_views_of_files_of_every_kind(recorded):
    folder, whole = recorded("views/a_all.tif", (169, 30, 27))
    _, series = recorded("views/b_series.tif", (2, 49, 30, 27), seed=1)
    _, single = recorded("views/c_single.tif", (33, 30), seed=2)
    _, at_rest = recorded("still/a_all.tif", (169, 30, 27), seed=3)
    recorded("still/b_series_still.tif", (2, 49, 30, 27), seed=4)
    recorded("still/c_single.tif", (33, 30), seed=5)
    found = read_scanned_views(Data(views=folder, volumes=folder.parent / "still"), 27)
    assert [f.source for f in found] == [
        "a_all.tif", "b_series.tif [0]", "b_series.tif [1]", "c_single.tif"
    ]  # fmt: skip
    for field, view in zip(found, [whole[84], series[0, 24], series[1, 24], single], strict=True):
        np.testing.assert_allclose(field.view, view / np.quantile(view, 0.9999), rtol=1e-5)
        low, high = field.dark_and_bright
        assert (field.view < low).mean() == pytest.approx(0.05, abs=0.01)
        assert (field.view > high).mean() == pytest.approx(0.01, abs=0.005)
    expected = at_rest[84] / np.quantile(whole[84], 0.9999)
    np.testing.assert_allclose(found[0].still, expected, rtol=1e-5)
    chosen = read_scanned_views(Data(views=folder, first=2, last=1), 27)
    assert [f.source for f in chosen] == ["b_series.tif [0]", "b_series.tif [1]"]
    assert chosen[0].still is None


def test_nan_counts_as_nothing(recorded, capsys):
    folder, values = recorded("views/a.tif", (30, 30))
    values[3, 4] = np.nan
    tifffile.imwrite(folder / "a.tif", values)
    (field,) = read_scanned_views(Data(views=folder), 9)
    assert np.isfinite(field.view).all()
    assert field.view[3, 4] == 0
    assert "a.tif: NaN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "crop", "still", "reason"),
    [
        ((49, 31, 30), 9, None, "(49, 31, 30); interlaced views"),
        ((49, 30, 30), 33, None, "lower crop to 30"),
        ((30, 30), 9, ("other.tif", (30, 30)), "no views at rest, a.tif, in"),
        ((30, 30), 9, ("a.tif", (30, 33)), "does not pair"),
    ],
)
def test_data_that_does_not_fit(recorded, shape, crop, still, reason):
    folder, _ = recorded("views/a.tif", shape)
    at_rest = recorded(f"still/{still[0]}", still[1])[0] if still else None
    with pytest.raises(UserError) as failure:
        read_scanned_views(Data(views=folder, volumes=at_rest), crop)
    assert reason in str(failure.value)


UNSCANNED = {
    "magnification": 40,
    "numerical_aperture": 0.95,
    "refractive_index": 1.0,
    "wavelength_um": 0.6,
    "microlens_pitch_um": 100,
    "microlens_focal_length_um": 2000,
    "n_num": 5,
    "scanning": 1,
    "depths_um": {"first": -2, "last": 2, "count": 5},
}


def test_settings_that_do_not_fit(run, tmp_path):
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(UNSCANNED))
    assert "crop 50: twnet needs a multiple of 3" in run(crop=50).error
    assert "twnet learns from 3 x 3 scans" in run(optics=str(tmp_path / "one.yaml")).error
    assert "channels is" in run(network={"channels": [8]}).error
    assert "start_from: demo is a serenet" in run(start_from="demo").error
