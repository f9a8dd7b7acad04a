import pytest

from scopekit.errors import UserError
from scopekit.progress import progress_bar, say


def test_lines_are_printed_as_they_are(capsys):
    say("saved [red]a:smile:b[/red].tif, " + 300 * "x")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "saved [red]a:smile:b[/red].tif, " + 300 * "x" + "\n"


def test_the_bar_counts_and_keeps_names_with_brackets(capsys):
    with progress_bar("tiles [a]", 3) as advance:
        advance()
        advance(2, note="z [b]")
    printed = capsys.readouterr()
    assert printed.out == ""
    for text in ("tiles [a]", "3/3", "z [b]"):
        assert text in printed.err


def test_a_failure_leaves_no_bar_behind(capsys):
    def fail():
        with progress_bar("tiles", 3) as advance:
            advance()
            raise UserError("NaN")

    with pytest.raises(UserError):
        fail()
    assert "tiles" not in capsys.readouterr().err
