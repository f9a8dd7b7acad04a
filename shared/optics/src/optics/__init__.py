"""Differentiable optics."""
