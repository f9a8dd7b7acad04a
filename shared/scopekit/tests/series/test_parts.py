"""What is noted of the parts of a frame."""

import pytest

from scopekit.errors import UserError
from scopekit.series.parts import FrameParts


def test_the_plan_of_an_interrupted_run_stays(tmp_path):
    FrameParts(tmp_path / "0.parts").plan(lambda: {"cuts": 3})
    again = FrameParts(tmp_path / "0.parts")
    again.plan(lambda: pytest.fail("planned anew"))
    assert again.noted() == {"cuts": 3}
    assert again.finished() == set()


def test_finished_parts_are_those_that_any_process_marked(tmp_path):
    one, other = FrameParts(tmp_path), FrameParts(tmp_path)
    one.plan(dict)
    one.finish(0)
    other.finish(12)
    assert one.finished() == {0, 12}


def test_a_mark_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        FrameParts(tmp_path / "removed").finish(0)
