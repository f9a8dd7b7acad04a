import pytest
import yaml

import serenet
from optics import presets

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")

TINY = {
    "method": "serenet",
    "optics": "nnum13",
    "depths": 7,
    "psf_size": 39,
    "data": {"simulated": 1},
    "validation": {"simulated": 1},
    "crop": 9,
    "perceptual": {"weight": 0},
    "epochs": 3,
    "validate_every": 1,
}


@pytest.fixture
def widget(dock, tmp_path, monkeypatch):
    settings = tmp_path / "tiny.yaml"
    settings.write_text(yaml.safe_dump(TINY))
    monkeypatch.setattr("serenet.napari.train.SETTINGS", str(settings))
    widget = dock("Train for this microscope")
    widget.folder.value = tmp_path / "run"
    widget.minutes.value = 0.1
    return widget


def test_run_is_stopped_resumed_and_ends_with_weights(widget, click, done, qtbot, tmp_path):
    widget.minutes.value = 30
    click(widget, "Start")
    log = tmp_path / "run" / "log.csv"
    last, curve = tmp_path / "run" / "checkpoints" / "last.pt", widget.run._pictures[0]
    qtbot.waitUntil(lambda: last.exists() and not curve.pixmap().isNull(), timeout=1_800_000)
    assert widget.run.busy
    click(widget, "Stop")
    assert done(widget).startswith("stopped: ")
    epochs = len(log.read_text().splitlines()) - 1
    widget.minutes.value = 0.1  # all starts together: hardly any are left
    click(widget, "Resume")
    assert "best.pt: use it with" in done(widget)
    assert len(log.read_text().splitlines()) - 1 > epochs
    serenet.load_checkpoint(tmp_path / "run" / "checkpoints" / "best.pt")
    assert not curve.pixmap().isNull()
    widget.folder.value = tmp_path / "another"
    click(widget, "Start")
    assert all(picture.pixmap().isNull() for picture in widget.run._pictures)
    click(widget, "Stop")
    done(widget)


def test_what_is_wrong_is_told_in_a_line(widget, click, done, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "letter.txt").write_text("not of a run")
    click(widget, "Start")
    assert "holds other files than a training run" in done(widget)
    widget.folder.value = None
    click(widget, "Start")
    assert "no folder is named" in widget.run.line.value
    wrong = tmp_path / "wrong.yaml"
    content = presets["nnum13"].model_dump(mode="json", exclude={"views"})
    wrong.write_text(yaml.safe_dump({**content, "wavelength_um": 525}))
    widget.folder.value = tmp_path / "other"
    widget.microscope.choose(wrong)
    click(widget, "Start")
    assert "Is it in nm" in widget.run.line.value
    assert not widget.run.busy
