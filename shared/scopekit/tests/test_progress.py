import pytest

from scopekit import progress
from scopekit.errors import UserError
from scopekit.progress import one_log, progress_bar, say, say_progress, say_time


@pytest.fixture
def clock(monkeypatch):
    """Let the test say how many seconds have passed."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_lines_are_printed_as_they_are(capsys):
    say("saved [red]a:smile:b[/red].tif, " + 300 * "x")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "saved [red]a:smile:b[/red].tif, " + 300 * "x" + "\n"


def test_the_bar_counts_and_keeps_names_with_brackets(capsys, terminal):
    with progress_bar("tiles [a]", 3) as advance:
        advance()
        advance(2, note="z [b]")
    printed = capsys.readouterr()
    assert printed.out == ""
    for text in ("tiles [a]", "3/3", "z [b]"):
        assert text in printed.err


def test_a_failure_leaves_no_bar_behind(capsys, terminal):
    def fail():
        with progress_bar("tiles", 3) as advance:
            advance()
            raise UserError("NaN")

    with pytest.raises(UserError):
        fail()
    assert "tiles" not in capsys.readouterr().err


def test_a_log_gets_an_early_line_and_one_a_minute(capsys, clock):
    with progress_bar("series.tif", 100) as advance:
        for _ in range(13):
            clock[0] += 10
            with progress_bar("tiles", 1) as inner:
                inner()
            advance()
    left = {1: "0:16:30", 7: "0:15:30", 13: "0:14:30"}
    lines = [f"series.tif: {done}/100, {told} left" for done, told in left.items()]
    assert capsys.readouterr().err.splitlines() == lines


def test_a_log_tells_the_steps_of_a_long_frame(capsys, clock):
    with progress_bar("series.tif", 3), progress_bar("tiles", 4) as advance:
        clock[0] += 90
        advance(note="z [3]")
    assert capsys.readouterr().err == "series.tif: 0/3; tiles: 1/4, 0:04:30 left, z [3]\n"


def test_a_log_holds_nothing_about_short_work(capsys, clock):
    with progress_bar("tiles", 3) as advance:
        for _ in range(3):
            clock[0] += 15
            advance()
    assert capsys.readouterr().err == ""


def test_a_log_needs_no_line_after_one_of_an_epoch(capsys, clock):
    with progress_bar("training", 4) as advance:
        for epoch in (1, 2):
            for _ in range(2):
                clock[0] += 25
                advance()
            say_progress(f"epoch {epoch} of 2")
    early = "training: 1/4, 0:01:15 left"
    assert capsys.readouterr().err.splitlines() == [early, "epoch 1 of 2", "epoch 2 of 2"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(9, ""), (44, "40 s"), (95, "2 min"), (5e4, "13.9 h")]
)
def test_time_is_told_of_what_takes_long(capsys, seconds, told):
    say_time("cell.tif", seconds)
    line = f"cell.tif: about {told} on this machine\n" if told else ""
    assert capsys.readouterr().err == line


def test_a_log_gets_lines_where_many_short_works_follow_one_another(capsys, clock):
    with one_log():
        for frame in range(3):
            with progress_bar(f"frame {frame}", 2) as advance:
                clock[0] += 25
                advance()
    assert capsys.readouterr().err == "frame 2: 1/2, 0:00:25 left\n"
