"""The command ``tenet``."""

from typing import Annotated

import typer

from scopekit.cli import new_app, run, version_option
from scopekit.errors import UserError
from tenet import __version__

_HELP = """Two-photon image enhancement without ground truth.

No command works yet; coming: demo, psf, pretrain, finetune, enhance, evaluate.
"""

app = new_app(_HELP)


@app.command(
    help=_HELP,
    no_args_is_help=True,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def refuse(
    context: typer.Context,
    _version: Annotated[bool, version_option("tenet", __version__)] = False,
) -> None:
    """Say of any command that it is not there yet."""
    raise UserError(
        f"tenet {' '.join(context.args)}: not yet available in version {__version__}; "
        "CHANGELOG.md tells what is"
    )


def main() -> None:
    """Run the command line."""
    run(app)
