import numpy as np
import pytest

from scopekit.errors import UserError
from scopekit.images import target as targets
from scopekit.images.files import write_volume
from scopekit.images.target import Target


def test_parts_are_put_and_taken(monkeypatch):
    released = []
    monkeypatch.setattr(targets, "release_pages", released.append)
    array = np.zeros((3, 4, 5), np.float32)
    target = Target(array)
    assert target.shape == (3, 4, 5)
    part = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    target.put((slice(None), slice(1, 3), slice(2, 4)), part)
    assert np.array_equal(array[:, 1:3, 2:4], part)
    assert array.sum() == part.sum()
    taken = target.take((slice(None), slice(1, 3), slice(2, 4)))
    assert np.array_equal(taken, part)
    target.put(slice(1, 2), 7)
    assert (array[1] == 7).all()
    assert np.array_equal(taken, part), "what was taken is a copy"
    assert len(released) == 3
    assert all(whole is array for whole in released)
    planes = list(target.planes())
    assert np.array_equal(np.stack(planes), array)
    assert len(released) == 6


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_never_lands(tmp_path, value):
    target = Target(np.zeros((2, 3, 3), np.float32))
    largest = np.finfo(np.float32).max
    target.put(slice(0, 2), np.full((2, 3, 3), largest, np.float32))
    part = np.full((1, 3, 3), 1, np.float32)
    part[0, 1, 1] = value
    with pytest.raises(UserError, match="NaN or infinite values, and was not written"):
        target.put(slice(1, 2), part)
    assert (target.array == largest).all()
    with pytest.raises(UserError, match="NaN or infinite"):
        write_volume(tmp_path / "a.tif", part, (1, 1, 1), overwrite=False)
    assert list(tmp_path.iterdir()) == []
