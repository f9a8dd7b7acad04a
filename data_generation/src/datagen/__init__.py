"""Synthetic volumes, light fields and phantoms."""

__version__ = "0.1.0"
