"""The command ``datagen``; its work is imported only when a command runs."""

from typing import Annotated

from datagen import __version__
from scopekit.cli import new_app, run, version_option

app = new_app("Synthetic volumes, light fields and phantoms to train serenet and tenet.")


@app.callback()
def _options(version: Annotated[bool, version_option("datagen", __version__)] = False) -> None:
    pass


def main() -> None:
    """Run the command line."""
    run(app)
