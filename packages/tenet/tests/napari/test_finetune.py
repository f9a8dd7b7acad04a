import json

import numpy as np
import pytest

import tenet
from scopekit.images.files import open_stack
from tenet.training.pretraining import pretrain

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

SECTIONS = ("pretrain_dataset", "pretrain_val_dataset")


@pytest.fixture
def base(tmp_path, small_data, write_config):
    """A configuration whose small network is pre-trained."""
    places = {f"{name}__folderpath": str(small_data / "labels") for name in SECTIONS}
    places |= {
        "pretrain_loop__path": str(tmp_path / "base"),
        "pretrain_loop__savefig_path": str(tmp_path / "base_run"),
        "train_loop__path": str(tmp_path / "base"),
        "pretrain_loop__n_epochs": 1,
    }
    file = write_config("base", **places)
    pretrain(file, device="cpu")
    return file


@pytest.fixture
def widget(viewer, dock, small_data, base, tmp_path):
    widget = dock("Fine-tune on these stacks")
    for path in sorted((small_data / "stacks").iterdir())[:2]:
        viewer.open(str(path), plugin="tenet-microscopy")
    widget.config.choose(base)
    widget.weights.value = tmp_path / "base" / "small.pt"
    widget.epochs.value = 1
    widget.folder.value = tmp_path / "out"
    widget.stacks.value = list(viewer.layers)
    return widget


def test_weights_learn_from_the_stacks_of_the_viewer(viewer, widget, click, done, tmp_path):
    click(widget, "Start")
    done(widget)
    tuned = tmp_path / "out" / "model" / "tuned.pt"
    model = tenet.load_model(tuned)
    before = tenet.load_model(tmp_path / "base" / "small.pt")
    assert any(
        not np.array_equal(a.detach(), b.detach())
        for a, b in zip(model.parameters(), before.parameters(), strict=True)
    )
    kept = sorted((tmp_path / "out" / "stacks").iterdir())
    assert len(kept) == 2
    for path, layer in zip(kept, viewer.layers, strict=True):
        np.testing.assert_array_equal(open_stack(path).read(), layer.data.astype(np.float32))
    click(widget, "Start")
    assert "exists: choose another folder, or resume" in widget.run.line.value


def test_what_is_wrong_is_told_in_a_line(viewer, widget, click, done, tmp_path):
    widget.stacks.value = [viewer.layers[0]]
    click(widget, "Start")
    assert "two stacks or more" in widget.run.line.value
    widget.stacks.value = list(viewer.layers)
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"params": {}}))
    widget.config.choose(wrong)
    click(widget, "Start")
    assert "wrong.json" in widget.run.line.value
    assert not (tmp_path / "out").exists()
    wrong = tmp_path / "wrong.pt"
    wrong.write_bytes(b"no weights")
    widget.weights.value = wrong
    widget.config.choose(tmp_path / "base.json")
    click(widget, "Start")
    assert "small.pt" in done(widget)
    assert "\n" not in widget.run.line.value
