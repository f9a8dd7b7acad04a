import pickle

import pytest

from scopekit.errors import Page, UserError, line_of, options_named


def test_message_ends_with_the_page_that_tells_more():
    failure = UserError("cell.tif: 2 channels; choose by `channel=N`", page=Page.axes)
    assert str(failure) == (
        "cell.tif: 2 channels; choose by `channel=N` (see docs/formats.md#axes)"
    )
    with options_named():
        assert str(failure).endswith("by --channel N (see docs/formats.md#axes)")
    assert str(UserError("cell.tif: damaged")) == "cell.tif: damaged"


def test_page_is_named_once_where_another_names_the_file():
    inner = UserError("is turned", page=Page.rectifying)
    assert str(UserError(f"flat.tif: {inner}")).count("docs/") == 1


def test_page_survives_another_process():
    failure = UserError("n_num: odd", page=Page.microscope)
    assert str(pickle.loads(pickle.dumps(failure))) == str(failure)


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), RuntimeError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator")],
)
def test_too_little_memory_is_told_with_its_page(failure):
    line = line_of(failure)
    assert line is not None
    assert line.startswith("out of memory")
    assert line.endswith("(see docs/troubleshooting.md#memory)")
