import errno
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from scopekit import outputs
from scopekit.errors import UserError
from scopekit.outputs import (
    STAGED,
    claimed,
    forget_killed,
    make_folder,
    require_names,
    require_new,
    require_space,
    require_writable,
    whole_file,
    whole_files,
)


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


def test_small_needs_are_told_in_small_units(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=2000))
    with pytest.raises(UserError, match=r"3\.50 MB are needed, 2\.00 kB are free"):
        require_space(tmp_path, 3_500_000)


def hold(path):
    """Keep a claim in another process until it is told to end."""
    script = f"""
from pathlib import Path
from scopekit.outputs import claimed
with claimed(Path({str(path)!r})):
    print("held", flush=True)
    input()
"""
    command = [sys.executable, "-c", script]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert run.stdout.readline() == "held\n"
    return run


@pytest.mark.parametrize("end", ["well", "killed"])
def test_one_run_at_a_time_makes_a_result(tmp_path, end):
    path = tmp_path / "out" / "result.txt"
    other = hold(path)
    try:
        with (
            pytest.raises(UserError, match=rf"another run \(process {other.pid}\) is making it"),
            whole_file(path, overwrite=True),
        ):
            pass
        if end == "killed":
            other.kill()
            other.wait()
            assert [p.name for p in path.parent.iterdir()] == [".result.txt.lock"]
        else:
            other.communicate("\n")
    finally:
        other.kill()
        other.communicate()
    with whole_file(path, overwrite=False) as partial:
        partial.write_text("whole")
    assert [p.name for p in path.parent.iterdir()] == ["result.txt"]


def test_the_lock_of_a_killed_run_goes_and_one_that_is_held_stays(tmp_path):
    path = tmp_path / "result.txt"
    lock = tmp_path / ".result.txt.lock"
    forget_killed(path)
    other = hold(path)
    try:
        forget_killed(path)
        assert is_held(path)
    finally:
        other.kill()
        other.communicate()
    assert lock.exists()
    forget_killed(path)
    assert not lock.exists()
    with claimed(path):
        forget_killed(path)
        assert is_held(path)


def is_held(path):
    """Whether another process finds the result claimed."""
    script = "import sys; from scopekit.outputs import claimed\nwith claimed(sys.argv[1]): pass"
    script = script.replace("sys.argv[1])", "__import__('pathlib').Path(sys.argv[1]))")
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ("another run" in done.stderr) == bool(done.returncode)
    return done.returncode != 0


def test_a_result_is_claimed_once_in_a_process(tmp_path):
    path = tmp_path / "result.txt"
    link = tmp_path / "link"
    link.symlink_to(tmp_path, target_is_directory=True)
    with claimed(path):
        for name in (path, link / path.name):
            with pytest.raises(UserError, match="another run"), claimed(name):
                pass
            # The refusal has not given the claim back.
            assert is_held(path)
        with claimed(tmp_path / "other.txt"):
            pass
    with claimed(path):
        pass
    assert list(tmp_path.iterdir()) == [link]


class Told(BaseException):
    """What a signal raises."""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals here")
def test_a_signal_at_any_moment_leaves_no_claim(tmp_path):
    def tell(*_):
        raise Told

    # Such as numerical libraries have: signals that the main thread held back would come there.
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    other.start()
    before, told = signal.signal(signal.SIGALRM, tell), 0
    try:
        for number in range(1000):
            try:
                signal.setitimer(signal.ITIMER_REAL, 3e-6 * (1 + number))
                with claimed(tmp_path / "result"):
                    pass
                signal.setitimer(signal.ITIMER_REAL, 0)
                time.sleep(0)  # what is due comes now
            except Told:
                told += 1
            assert list(tmp_path.iterdir()) == []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        over.set()
        other.join()
    assert told > 100
    with claimed(tmp_path / "result"):
        pass


def test_a_result_that_another_run_just_finished_stays(tmp_path, monkeypatch):
    path = tmp_path / "result.txt"
    real = outputs.claimed

    def slow(result):
        path.write_text("theirs")  # between the first look and the claim
        return real(result)

    monkeypatch.setattr(outputs, "claimed", slow)
    with pytest.raises(UserError, match="exists"), whole_file(path, overwrite=False):
        pass
    assert path.read_text() == "theirs"


def test_folders_that_were_made_for_nothing_go_again(tmp_path):
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "mine", tmp_path / "new" / "newer"):
        with pytest.raises(ZeroDivisionError):
            write_half(folder / "result.txt", ZeroDivisionError)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_empty_folder_of_the_user_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    monkeypatch.chdir(tmp_path / "real")
    for folder in (Path(), tmp_path / "link"):
        with pytest.raises(ZeroDivisionError), whole_files(folder / "a", (".x", ".y")):
            raise ZeroDivisionError
    assert (tmp_path / "real").is_dir()
    assert list((tmp_path / "real").iterdir()) == []


def write_pair(stem, text, names=(".csv", ".tif")):
    with whole_files(stem, (".csv", ".png", ".tif")) as folder:
        for ending in names:
            (folder / f"{STAGED}{ending}").write_text(text)


def test_files_of_a_result_land_together(tmp_path):
    stem = tmp_path / "out" / "cell"
    (tmp_path / "out" / ".cell.partial").mkdir(parents=True)  # of a run that was killed
    (tmp_path / "out" / ".cell.partial" / f"{STAGED}.png").write_text("older")
    write_pair(stem, "one")
    assert sorted(p.name for p in stem.parent.iterdir()) == ["cell.csv", "cell.tif"]
    write_pair(stem, "two", names=(".csv", ".png", ".tif"))
    write_pair(stem, "three")  # without a picture now
    assert {p.name: p.read_text() for p in stem.parent.iterdir()} == {
        "cell.csv": "three",
        "cell.tif": "three",
    }


def test_where_landing_stops_no_older_result_seems_whole(tmp_path):
    stem = tmp_path / "cell"
    write_pair(stem, "one")
    (tmp_path / "cell.png").mkdir()
    with pytest.raises(UserError, match=r"cannot write .*cell\.tif"):
        write_pair(stem, "two", names=(".csv", ".png", ".tif"))
    assert not (tmp_path / "cell.tif").exists()


def test_names_that_are_too_long_are_told_before(tmp_path):
    long = tmp_path / ("x" * 231)
    with pytest.raises(UserError, match="its name is 1 bytes too long; give the input a shorter"):
        require_names(long, (".tif", "_tenet_reconstruction.tif"))
    require_names(long, ("_tenet_structure.tif",))
    write_pair(tmp_path / ("x" * 251), "one")  # hidden names would be longer
    with pytest.raises(UserError, match="too long"):
        write_pair(tmp_path / ("ü" * 126), "one")


def test_an_input_is_never_replaced(tmp_path, monkeypatch):
    path = tmp_path / "cell.tif"
    path.write_text("mine")
    (tmp_path / "link.tif").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    for name in (path, Path("cell.tif"), Path("link.tif")):
        with pytest.raises(UserError, match="is an input, which is never replaced"):
            require_new(name, overwrite=True, inputs=[tmp_path / "other", path])
    require_new(tmp_path / "new.tif", overwrite=False, inputs=[path])
