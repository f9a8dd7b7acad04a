import errno

import pytest

from scopekit.errors import UserError
from scopekit.outputs import make_folder, require_new, require_space, require_writable, whole_file


def write_half(path, failure, *, overwrite=False):
    with whole_file(path, overwrite=overwrite) as partial:
        partial.write_text("half")
        raise failure


def test_a_finished_file_has_its_name_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "result.txt"
    with whole_file(path, overwrite=False) as partial:
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path, failure):
    with pytest.raises(failure):
        write_half(tmp_path / "result.txt", failure)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_result(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("older")
    with pytest.raises(ZeroDivisionError):
        write_half(path, ZeroDivisionError, overwrite=True)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_results_are_replaced_only_on_demand(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("older")
    with (
        pytest.raises(UserError, match=r"result\.txt exists: add `overwrite=True`"),
        whole_file(path, overwrite=False),
    ):
        pass
    assert path.read_text() == "older"
    with whole_file(path, overwrite=True) as partial:
        partial.write_text("newer")
    assert path.read_text() == "newer"


def test_what_can_be_written_is_known_before(tmp_path):
    require_writable(tmp_path / "new" / "newer")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*newer: a part of that path is a file"):
        require_writable(tmp_path / "file" / "newer")


def test_a_folder_is_never_replaced(tmp_path):
    with pytest.raises(UserError, match="it is a folder"):
        require_new(tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "read-only"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_system_failures_name_the_file_and_the_remedy(tmp_path, number, remedy):
    failure = OSError(number, "Input/output error")
    with pytest.raises(UserError, match=rf"cannot write .*result\.txt: .*{remedy}"):
        write_half(tmp_path / "result.txt", failure)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder(tmp_path):
    blocker = tmp_path / "results"
    blocker.write_text("")
    for folder in (blocker, blocker / "deeper"):
        with pytest.raises(UserError, match=r"cannot write .*file"):
            make_folder(folder)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(UserError, match="no permission"):
        make_folder(tmp_path)


def test_space_is_compared_with_what_is_free(tmp_path):
    require_space(tmp_path, 1)
    with pytest.raises(UserError, match=r"1000000000\.00 GB are needed, .* GB are free"):
        require_space(tmp_path, 10**18)
