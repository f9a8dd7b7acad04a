"""The command ``tenet``."""
