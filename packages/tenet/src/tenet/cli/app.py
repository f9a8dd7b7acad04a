"""The command ``tenet``; its work is imported only when a command runs."""

from typing import Annotated

import typer

from scopekit.cli import BARE, new_app, run, tell_next, version_option
from tenet import __version__
from tenet.cli import check as cli_check
from tenet.cli import demo as cli_demo
from tenet.cli import enhance as cli_enhance
from tenet.cli import evaluate as cli_evaluate
from tenet.cli import psf as cli_psf
from tenet.cli import training as cli_training
from tenet.cli.weights import weights

# What the published scripts call these options.
_PUBLISHED = {
    "train_mode": "mode",
    "cross_validation": "fold",
    "train_with_align": "align",
    "just_wanna_see_loss": "loss-only",
    "loss_mode": "loss-mode",
}

app = new_app("Two-photon image enhancement without ground truth.", _PUBLISHED)


_NEXT = """
tenet sharpens two-photon stacks and finds the objects in them. What do you have?

  nothing yet       tenet demo                        a phantom, made, imaged and enhanced
  a stack           tenet check stack.tif             what it is, and which command comes next
  and a network     tenet enhance stack.tif --config my.json --checkpoint model/my.pt --out results
  no network yet    tenet pretrain my.json --minutes 20                  learns from random scenes
                    tenet finetune my.json --stacks folder --minutes 10  learns on from yours

tenet --help lists all commands; each has --help with an example.
"""


@app.callback(**BARE)
def _options(
    context: typer.Context,
    version: Annotated[bool, version_option("tenet", __version__)] = False,
) -> None:
    tell_next(context, _NEXT)


app.command()(cli_demo.demo)
app.command()(cli_check.check)
app.command()(cli_psf.psf)
app.command()(cli_training.pretrain)
app.command()(cli_training.finetune)
app.command()(cli_training.train_aligner)
app.command()(cli_enhance.enhance)
app.add_typer(cli_evaluate.app, name="evaluate")
app.add_typer(weights, name="weights")


def main() -> None:
    """Run the command line."""
    run(app)
