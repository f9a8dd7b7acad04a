"""Which files of a folder are learned from, and what their crops hold."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from optics import presets
from serenet.training.crops import TrainingData
from serenet.training.sections import Data


@pytest.mark.parametrize(
    ("wanted", "names"), [({"first": 2}, ["No1", "No2"]), ({"last": 2}, ["No10", "No11"])]
)
def test_the_first_and_last_files_are_those_by_number(tmp_path, wanted, names):
    microscope = presets["nnum13"].with_middle_depths(7)
    for number in (11, 10, 2, 1):
        tifffile.imwrite(tmp_path / f"No{number}.tif", np.ones((49, 12, 12), np.float32))
    data = TrainingData(Data(views=tmp_path, **wanted), microscope, 12, paired=False)
    assert [Path(field.source).stem for field in data.fields] == names


def test_nan_and_negative_counts_become_zero(tmp_path):
    microscope = presets["nnum13"].with_middle_depths(7)
    views = np.full((49, 12, 12), 3, np.float32)
    views[:, 0, 0], views[:, 1, 1] = np.nan, -5
    tifffile.imwrite(tmp_path / "views.tif", views)
    data = TrainingData(Data(views=tmp_path), microscope, 12, paired=False)
    crop = data.views(0, (0, 0))
    assert (crop[:, 0, 0] == 0).all()
    assert (crop[:, 1, 1] == 0).all()
    assert (crop[:, 2:, 2:] == 3).all()
