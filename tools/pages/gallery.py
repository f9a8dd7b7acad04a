"""The gallery: every example as a page, as a notebook, and as a card."""

import json
import re
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
_CELL = re.compile(r"^# %%(?P<kind> \[markdown\])?\n", re.MULTILINE)


def example_scripts() -> list[Path]:
    """Return the scripts of the gallery in their order."""
    return sorted(EXAMPLES.glob("[0-9]*.py"))


def cells(script: Path) -> list[tuple[bool, str]]:
    """Return the cells of a script: whether it is text, and what it holds."""
    pieces = _CELL.split(script.read_text(encoding="utf-8"))
    found = []
    for kind, content in zip(pieces[1::2], pieces[2::2], strict=True):
        body = content.strip("\n")
        if kind:
            body = "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.splitlines())
        else:
            body = re.sub(r"  # noqa: \w+$", "", body, flags=re.MULTILINE)
        found.append((kind is not None, body))
    return found


def example_page(script: Path) -> str:
    """Return an example as a page: its cells, what it printed and drew."""
    parts = [body if is_text else f"```python\n{body}\n```" for is_text, body in cells(script)]
    printed = script.with_suffix(".txt").read_text(encoding="utf-8").strip()
    parts.append(f"It prints\n\n```text\n{printed}\n```\n\nand draws")
    parts.append(f"![{title_of(script)}]({script.stem}.png)")
    parts.append(f"As [a script]({script.name}), or as [a notebook]({script.stem}.ipynb).")
    return "\n\n".join(parts) + "\n"


def title_of(script: Path) -> str:
    """Return the heading of an example."""
    return cells(script)[0][1].splitlines()[0].lstrip("# ")


def gallery() -> str:
    """Return the page that shows all examples."""
    cards = [
        f"-   [![{title_of(s)}]({s.stem}.png)]({s.stem}.md)\n\n    **[{title_of(s)}]({s.stem}.md)**"
        for s in example_scripts()
    ]
    return (
        "# Examples\n\nEach runs in less than a minute on one core, needs no data, and is executed "
        "by `nox -s examples`.\n\n"
        '<div class="grid cards" markdown>\n\n' + "\n\n".join(cards) + "\n\n</div>\n"
    )


def notebook(script: Path) -> str:
    """Return an example as a Jupyter notebook."""
    content: list[dict[str, object]] = []
    for is_text, body in cells(script):
        kind = "markdown" if is_text else "code"
        cell: dict[str, object] = {"cell_type": kind, "metadata": {}, "source": body}
        content.append(cell if is_text else cell | {"outputs": [], "execution_count": None})
    return json.dumps(
        {"cells": content, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}, indent=1
    )
