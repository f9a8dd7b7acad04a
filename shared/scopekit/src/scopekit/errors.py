"""The one exception whose text is meant for the person at the microscope."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_commands_running = 0
_OUT_OF_MEMORY = "out of memory: give a smaller `max_memory_gb`, or close other programs"


class UserError(Exception):
    """Something the user can mend; its text is one line naming the file and the remedy.

    Arguments of functions stand between backticks: ```out` ``, ```overwrite=True` ``. While a
    command runs they read as its options, see `worded`.
    """

    def __str__(self) -> str:
        return worded(super().__str__())


def line_of(failure: BaseException) -> str | None:
    """Return the line that a user is told of a failure which he can mend; ``None`` of others.

    Besides `UserError` those are what the optics refuse, what the system does to files, and too
    little memory.
    """
    line: str | None = None
    if isinstance(failure, UserError) or _is_of_optics(failure):
        line = str(failure)
    elif isinstance(failure, OSError):
        line = f"{failure.filename or 'file system'}: {failure.strerror or failure}"
    elif isinstance(failure, MemoryError) or "DefaultCPUAllocator" in str(failure):
        line = _OUT_OF_MEMORY
    elif isinstance(failure, RuntimeError) and "out of memory" in str(failure).lower():
        line = "out of memory on the device: give a smaller `max_memory_gb`, or `device=cpu`"
    return line and " ".join(worded(line).split())


def _is_of_optics(failure: BaseException) -> bool:
    """Whether the optics tell what the user can mend; they stand alone, without `UserError`."""
    errors = sys.modules.get("optics.errors")
    return errors is not None and isinstance(failure, errors.OpticsError)


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
