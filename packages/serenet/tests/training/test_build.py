"""From settings to what is trained."""

from typing import get_args

import pytest
import yaml

from scopekit.errors import UserError
from serenet.training.build import _BUILDERS
from serenet.training.settings import Method, load_settings


def test_every_method_can_be_built():
    assert set(_BUILDERS) == set(get_args(Method))


def test_the_microscope_may_be_called_optics_or_microscope(tmp_path):
    named = {"method": "serenet", "microscope": "nnum15", "data": {"simulated": 1}}
    path = tmp_path / "settings.yaml"
    path.write_text(yaml.safe_dump(named))
    assert load_settings(str(path)).model_dump()["optics"] == "nnum15"
    path.write_text(yaml.safe_dump({**named, "optics": "nnum13"}))
    with pytest.raises(UserError, match="microscope: unknown key"):
        load_settings(str(path))
