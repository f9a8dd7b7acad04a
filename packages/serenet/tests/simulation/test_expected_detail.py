"""``serenet psf`` tells what detail to expect at each depth."""

import re

import pytest
import yaml

from optics import presets
from serenet.simulation.psf_files import expected_detail


def test_the_finest_period_is_told_for_a_few_depths(serenet, tmp_path):
    scope = presets["nnum13"].with_depths([-6.0, -3.0, 0.0, 3.0, 6.0])
    optics = tmp_path / "scope.yaml"
    optics.write_text(yaml.safe_dump(scope.with_views(scope.views[:25]).model_dump(mode="json")))
    outcome = serenet("psf", optics, "--size", 21, "--out", tmp_path / "psf.h5")
    assert outcome.code == 0
    told = re.findall(r"([\d.]+) at ([\d.]+)", outcome.out)
    assert [depth for _, depth in told] == ["0", "3", "6"]
    assert all(0.3 < float(period) < 4 for period, _ in told)


def test_an_unscanned_field_tells_two_lenses_in_focus():
    scope = presets["nnum13"].model_dump() | {"scanning": 1, "depths_um": [0.0]}
    told = expected_detail(type(presets["nnum13"]).model_validate(scope))
    assert float(told.split(" at ")[0]) == pytest.approx(2 * 100 / 63, rel=0.1)
