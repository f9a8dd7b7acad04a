"""``python -m tenet`` is ``tenet``."""

from tenet.cli import main

main()
