"""Unsupervised enhancement of two-photon microscopy."""

__version__ = "0.1.0"
