"""The command ``tenet``; its work is imported only when a command runs."""

from typing import Annotated

from scopekit.cli import new_app, run, version_option
from tenet import __version__
from tenet.cli import demo as cli_demo
from tenet.cli import enhance as cli_enhance
from tenet.cli import evaluate as cli_evaluate
from tenet.cli import psf as cli_psf
from tenet.cli import training as cli_training

# What the published scripts call these options.
_PUBLISHED = {
    "train_mode": "mode",
    "cross_validation": "fold",
    "train_with_align": "align",
    "just_wanna_see_loss": "loss-only",
    "loss_mode": "loss-mode",
}

app = new_app("Two-photon image enhancement without ground truth.", _PUBLISHED)


@app.callback()
def _options(version: Annotated[bool, version_option("tenet", __version__)] = False) -> None:
    pass


app.command()(cli_demo.demo)
app.command()(cli_psf.psf)
app.command()(cli_training.pretrain)
app.command()(cli_training.finetune)
app.command()(cli_training.train_aligner)
app.command()(cli_enhance.enhance)
app.add_typer(cli_evaluate.app, name="evaluate")


def main() -> None:
    """Run the command line."""
    run(app)
