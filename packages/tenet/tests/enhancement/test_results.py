"""What the picture and the table of an enhanced recording show."""

import csv

import numpy as np
import pytest
import torch

from tenet.config.files import load_config
from tenet.data.recordings import open_recording
from tenet.enhancement import results
from tenet.enhancement.results import StackOptions, StackTask, enhance_stack
from tenet.enhancement.stack import enhance
from tenet.network.jnet import JNet


@pytest.fixture
def enhanced(write_config, tmp_path, monkeypatch):
    """Return what was drawn, the table of objects, the recording, and what the network found."""
    torch.manual_seed(0)
    model = JNet(load_config(write_config()).params).eval()
    volume = np.random.default_rng(0).integers(90, 400, (3, 20, 17)).astype(np.float32)
    np.save(tmp_path / "cell.npy", volume)
    found = enhance(model, volume)
    threshold = float(np.quantile(found.structure, 0.98))
    panels = {}

    def keep(path, volumes, voxel_um, *, overwrite):
        path.touch()
        panels.update({name: np.stack(list(planes)) for name, planes in volumes.items()})
        panels["voxel_um"] = voxel_um

    monkeypatch.setattr(results, "save_preview", keep)
    options = StackOptions(threshold, None, None, "float32")
    recording = open_recording(tmp_path / "cell.npy")
    enhance_stack(model, StackTask(recording, 0, (0.8, 0.2, 0.2), options, {}), tmp_path)
    with (tmp_path / "result_objects.csv").open() as handle:
        table = list(csv.DictReader(handle))
    return panels, table, volume, found, threshold


def test_every_panel_shows_what_its_title_says(enhanced):
    panels, _, volume, found, _ = enhanced
    expected = {
        "recorded": volume.repeat(4, axis=0),
        "reconstruction": found.reconstruction.repeat(4, axis=0),
        "structure": found.structure,
        "structure x brightness": found.structure * found.brightness,
    }
    assert panels.pop("voxel_um") == pytest.approx((0.2, 0.2, 0.2))
    assert list(panels) == list(expected)
    for name, planes in expected.items():
        np.testing.assert_allclose(panels[name], planes, atol=1e-5, err_msg=name)


def test_the_table_tells_brightness_and_recorded_values(enhanced):
    _, table, volume, found, threshold = enhanced
    inside = found.structure >= threshold
    weights = np.array([float(row["volume_um3"]) for row in table])
    for column, values in (
        ("mean_brightness", found.brightness),
        ("mean_recorded", volume.repeat(4, axis=0)),
    ):
        means = np.array([float(row[column]) for row in table])
        assert (weights @ means) / weights.sum() == pytest.approx(values[inside].mean(), rel=1e-3)
