"""The command ``datagen``."""

from typing import Annotated

import typer

from datagen import __version__
from scopekit.cli import new_app, run, version_option
from scopekit.errors import UserError

_HELP = """Synthetic volumes and light fields to train serenet and tenet.

No command works yet; coming: bubtub, phantoms, lines, beads.
"""

app = new_app(_HELP)


@app.command(
    help=_HELP,
    no_args_is_help=True,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def refuse(
    context: typer.Context,
    _version: Annotated[bool, version_option("datagen", __version__)] = False,
) -> None:
    """Say of any command that it is not there yet."""
    raise UserError(
        f"datagen {' '.join(context.args)}: not yet available in version {__version__}; "
        "CHANGELOG.md tells what is"
    )


def main() -> None:
    """Run the command line."""
    run(app)
