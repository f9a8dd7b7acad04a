"""The one exception whose text is meant for the person at the microscope."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_commands_running = 0


class UserError(Exception):
    """Something the user can mend; its text is one line naming the file and the remedy.

    Arguments of functions stand between backticks: ```out` ``, ```overwrite=True` ``. While a
    command runs they read as its options, see `worded`.
    """

    def __str__(self) -> str:
        return worded(super().__str__())


@contextmanager
def options_named() -> Iterator[None]:
    """Name arguments as the command line does while the block runs."""
    global _commands_running
    _commands_running += 1
    try:
        yield
    finally:
        _commands_running -= 1


def worded(text: str) -> str:
    """Return a text for the user in which arguments read as he gives them.

    In Python that is the text itself; while a command runs, ```max_memory_gb=2` `` becomes
    ``--max-memory-gb 2``, and ```overwrite=True` `` becomes ``--overwrite``.
    """
    return _ARGUMENT.sub(_as_option, text) if _commands_running else text


def _as_option(argument: re.Match[str]) -> str:
    option = "--" + argument[1].replace("_", "-")
    return option if argument[2] in (None, "True") else f"{option} {argument[2]}"
