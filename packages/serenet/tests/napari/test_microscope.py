import pytest
import yaml

import serenet
from optics import presets

pytest.importorskip("napari", reason="napari is not installed: run nox -s napari")


@pytest.fixture
def widget(dock):
    return dock("Microscope")


def test_form_shows_what_the_optics_imply(widget):
    assert widget.described() == presets["nnum13"]
    assert "0.2 x 0.1221 x 0.1221 µm" in widget.implied.value
    assert "49 of 169" in widget.implied.value
    widget.fields["magnification"].value = "40"
    assert "0.2 x 0.1923 x 0.1923 µm" in widget.implied.value
    widget.fields["count"].value = "51"
    assert "voxels of 0.4 x" in widget.implied.value


@pytest.mark.parametrize(
    ("field", "text", "told"),
    [
        ("wavelength_um", "525", "not yet: wavelength_um is 525; it must"),
        ("wavelength_um", "525", "Is it in nm? Then give 0.525"),
        ("numerical_aperture", "1.6", "below refractive_index"),
        ("n_num", "14", "must be odd"),
        ("n_num", "13.5", "whole number"),
        ("magnification", "", "magnification: empty"),
        ("last", "-20", "must increase"),
    ],
)
def test_what_is_wrong_is_told_as_one_types(widget, field, text, told):
    before = widget.fields[field].value
    widget.fields[field].value = text
    assert told in widget.implied.value
    assert not widget["save"].enabled
    widget.fields[field].value = before
    assert "Volumes: voxels" in widget.implied.value
    assert widget["save"].enabled


def test_what_is_saved_is_loaded_again(widget, click, tmp_path):
    file = tmp_path / "mine.yaml"
    widget.fields["wavelength_um"].value = "0.59"
    widget.target.value = file
    click(widget, "Save")
    assert "is saved" in widget.work.line.value
    kept = serenet.load_microscope(file)
    assert (kept.wavelength_um, kept.views) == (0.59, presets["nnum13"].views)
    widget.fields["wavelength_um"].value = "0.7"
    widget.start.choose(file)
    click(widget, "Load")
    assert widget.described() == kept


def test_a_file_is_replaced_when_save_is_pressed_again(widget, click, tmp_path):
    file = tmp_path / "mine.yaml"
    widget.target.value = file
    click(widget, "Save")
    before = file.read_text()
    widget.fields["magnification"].value = "40"
    assert widget.work.line.value == ""  # what was saved is not what the form shows
    click(widget, "Save")
    assert "mine.yaml exists: press Save once more to replace it" in widget.work.line.value
    widget.fields["magnification"].value = "50"
    click(widget, "Save")
    assert file.read_text() == before
    click(widget, "Save")
    assert "is saved" in widget.work.line.value
    assert serenet.load_microscope(file).magnification == 50


def test_views_by_the_aperture_are_left_to_it(widget, click, tmp_path):
    content = presets["nnum15"].model_dump(mode="json", exclude={"views"})
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    widget.start.choose(file)
    click(widget, "Load")
    widget.target.value = file
    click(widget, "Save")
    click(widget, "Save")  # replaces it
    assert yaml.safe_load(file.read_text()) == content


def test_wrong_files_are_told_and_stay(widget, click, tmp_path):
    wrong = tmp_path / "notes.yaml"
    wrong.write_text("title: no microscope\n")
    widget.start.choose(wrong)
    click(widget, "Load")
    assert "notes.yaml" in widget.work.line.value
    assert widget.described() == presets["nnum13"]
    widget.target.value = wrong
    click(widget, "Save")
    assert "notes.yaml" in widget.work.line.value
    assert wrong.read_text() == "title: no microscope\n"
