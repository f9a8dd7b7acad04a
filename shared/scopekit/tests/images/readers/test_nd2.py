"""ND2: axes by name, one plane at a time, the camera's own depth; the package is stood in for."""

import sys
import types
import typing

import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images.files import Selection, open_stack

VALUES = np.random.default_rng(0).integers(0, 60000, (2, 3, 2, 4, 5)).astype(np.uint16)


class ND2File:
    """Does what is used of the package: axes T, Z, C, Y, X; frames of all channels."""

    bits = 16
    calibrated = (True, True, True)
    step_um: float | None = 1.5
    frames_read: typing.ClassVar[list] = []

    def __init__(self, path):
        self.sizes = dict(zip("TZCYX", VALUES.shape, strict=True))
        self.dtype = VALUES.dtype
        self.attributes = types.SimpleNamespace(bitsPerComponentSignificant=self.bits)
        size = {"axesCalibration": (0.1, 0.2, 1.0), "axesCalibrated": self.calibrated}
        volume = types.SimpleNamespace(**size)
        self.metadata = types.SimpleNamespace(channels=[types.SimpleNamespace(volume=volume)])
        loop = types.SimpleNamespace(stepUm=self.step_um)
        self.experiment = [types.SimpleNamespace(type="ZStackLoop", parameters=loop)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def read_frame(self, number):
        self.frames_read.append(number)
        return VALUES.reshape(6, 2, 4, 5)[number]


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nd2", types.SimpleNamespace(ND2File=ND2File))
    path = tmp_path / "a.nd2"
    path.touch()
    return path


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nd2", None)
    (tmp_path / "a.nd2").touch()
    with pytest.raises(UserError, match="to read ND2 run: pip install nd2"):
        open_stack(tmp_path / "a.nd2")


def test_a_channel_is_read_plane_by_plane(path):
    with pytest.raises(UserError, match="2 time points x 3 planes x 2 channels; choose a channel"):
        open_stack(path)
    stack = open_stack(path, Selection(channel=1))
    assert stack.shape == (2, 3, 4, 5)
    assert np.array_equal(stack.read(1), VALUES[1, :, 1])
    ND2File.frames_read.clear()
    part = stack.read_window([2, 0], slice(1, 3), slice(2, None), 1)
    assert np.array_equal(part, VALUES[1, [2, 0], 1, 1:3, 2:])
    assert ND2File.frames_read == [5, 3]


@pytest.mark.parametrize(("bits", "largest"), [(12, 4095), (16, 65535)])
def test_the_depth_of_the_camera_is_the_files_own(path, monkeypatch, bits, largest):
    monkeypatch.setattr(ND2File, "bits", bits)
    assert open_stack(path, Selection(channel=0)).full_scale == largest


def test_what_is_not_calibrated_is_unknown(path, monkeypatch):
    channel = Selection(channel=0)
    assert open_stack(path, channel).voxel_um == (1.5, 0.2, 0.1)
    monkeypatch.setattr(ND2File, "calibrated", (False, False, False))
    steps = open_stack(path, channel).steps
    assert (steps.z_um, steps.y_um, steps.x_um) == (1.5, None, None)
    monkeypatch.setattr(ND2File, "step_um", 0.0)
    with pytest.raises(UserError, match=r"its ND2 metadata give a step of 0\.0 um along z"):
        open_stack(path, channel)


def test_damage_is_told(path, monkeypatch):
    monkeypatch.setattr(ND2File, "read_frame", lambda *_: np.zeros(3))
    with pytest.raises(UserError, match=r"a\.nd2: not an ND2 file, or damaged"):
        open_stack(path, Selection(channel=0)).read(0)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        open_stack(path)
