"""Displaced slices: their shifts, the network that finds them, and how it is trained."""
