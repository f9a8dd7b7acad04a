"""Iterative reconstruction: ordered-subset Richardson-Lucy."""
