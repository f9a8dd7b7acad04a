"""Progress bars with the time left, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)


# The bar on the screen, under which further ones appear while their blocks run.
_shown: ContextVar[Progress | None] = ContextVar("shown", default=None)


@contextmanager
def progress_bar(description: str, total: int) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs; yield ``advance(steps=1, note="")``.

    Inside the block of another bar it appears below that one, and goes when its block ends.

    Parameters
    ----------
    description
        What is being done, in a few words.
    total
        Number of steps.
    """
    outer = _shown.get()
    if outer is not None:
        task = outer.add_task(description, total=total, note="")
        try:
            yield _advancing(outer, task)
        finally:
            outer.remove_task(task)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        token = _shown.set(progress)
        task = progress.add_task(description, total=total, note="")
        try:
            yield _advancing(progress, task)
        except Exception:  # what failed is told in a line, without a bar that stands still
            progress.update(task, visible=False)
            raise
        finally:
            _shown.reset(token)


def _advancing(progress: Progress, task: TaskID) -> Callable[..., None]:
    def advance(steps: int = 1, note: str = "") -> None:
        progress.update(task, advance=steps, note=note)

    return advance


def say(message: str) -> None:
    """Print one line for the user on standard error."""
    console.print(message)
