"""``python -m serenet``."""

from serenet.cli import main

main()
