"""``python -m tenet`` is ``tenet``."""

from tenet.cli.app import main

main()
