"""The commands ``serenet weights`` and ``serenet weights get``."""

from pathlib import Path
from typing import Annotated

import typer

weights = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)


@weights.callback(invoke_without_command=True)
def _list(context: typer.Context) -> None:
    """List the weights that ship, and those that can be fetched by name.

    Use them by name: --checkpoint serenet_nnum13.

    Example: **serenet weights**, **serenet weights get published-serenet**
    """
    if context.invoked_subcommand is not None:
        return
    from scopekit.downloads.remote import cached
    from serenet.networks.published_weights import PUBLISHED
    from serenet.networks.shipped import shipped_weights, weights_file

    for name, about in shipped_weights().items():
        print(f"{name}: {weights_file(name)}")
        for key, value in about.items():
            print(f"    {key}: {value}")
    print("\nOf others, not passed on here: serenet weights get NAME")
    for name, file in PUBLISHED.items():
        print(f"{name}: {cached(file, 'serenet') or 'not fetched'}")
        print(f"    {file.about}\n    from {file.page}")


@weights.command()
def get(
    name: Annotated[str, typer.Argument(help="As the list calls it: published-serenet.")],
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A copy that you have, instead of the network: checked and kept.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Fetch weights from their authors, check them, and keep them in the user's cache.

    Example: **serenet weights get published-serenet**
    """
    from serenet.networks.published_weights import fetch_weights

    path = fetch_weights(name, source)
    print(f"{path}: use it as --checkpoint {name}")
