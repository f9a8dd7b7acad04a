"""``tenet weights``."""

from typing import Annotated

import typer

weights = typer.Typer(rich_markup_mode="markdown", pretty_exceptions_enable=False)


@weights.callback(invoke_without_command=True)
def _list(context: typer.Context) -> None:
    """List the weights that ship, and where the published ones are.

    Use those that ship by name: --checkpoint demo_pretrain.

    Example: **tenet weights**
    """
    if context.invoked_subcommand is not None:
        return
    from tenet.network.published_weights import PUBLISHED
    from tenet.network.weights import shipped_weights, weights_file

    for name in shipped_weights():
        print(f"{name}: {weights_file(name)}")
    print("\nOf others, not passed on here:")
    for name, file in PUBLISHED.items():
        print(f"{name}: {file.about}\n    from {file.page}")


@weights.command()
def get(
    name: Annotated[str, typer.Argument(help="As the list calls it.")],
) -> None:
    """Fetch weights from their authors, or say where to fetch them by hand.

    Example: **tenet weights get published-beads**
    """
    from tenet.network.published_weights import fetch_weights

    print(fetch_weights(name))
