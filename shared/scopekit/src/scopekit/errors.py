"""The one exception whose text is meant for the person at the microscope."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")
_commands_running = 0
_OUT_OF_MEMORY = "out of memory: give a smaller `max_memory_gb`, or close other programs"
_OUT_OF_DEVICE_MEMORY = (
    "out of memory on the device: give a smaller `max_memory_gb`, or `device=cpu`"
)


class Page(StrEnum):
    """Pages of the documentation, and places in them, that tell more than a message can."""

    axes = "formats.md#axes"
    commands = "troubleshooting.md#commands"
    configuration = "configuration.md"
    files = "troubleshooting.md#files"
    memory = "troubleshooting.md#memory"
    microscope = "my_microscope.md"
    rectifying = "light_field.md#you-have-raw-camera-frames"
    training = "troubleshooting.md#training"
    training_settings = "training.md"
    value_range = "two_photon.md#enhance-recordings"


class UserError(Exception):
    """Something the user can mend; its text is one line naming the file and the remedy.

    It ends with the page of the documentation that tells more, where one does.

    Parameters
    ----------
    text
        The line.
    page
        The page.

    Notes
    -----
    Arguments of functions stand between backticks: ```out` ``, ```overwrite=True` ``. While a
    command runs they read as its options, see `worded`.
    """

    def __init__(self, text: str, *, page: Page | None = None) -> None:
        super().__init__(text if page is None else told_at(page, text))

    def __str__(self) -> str:
        return worded(super().__str__())


def told_at(page: Page, text: str) -> str:
    """Return a text that names the page which tells more."""
    return f"{text} (see docs/{page})"


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
        line = told_at(Page.memory, _OUT_OF_MEMORY)
    elif isinstance(failure, RuntimeError) and "out of memory" in str(failure).lower():
        line = told_at(Page.memory, _OUT_OF_DEVICE_MEMORY)
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
