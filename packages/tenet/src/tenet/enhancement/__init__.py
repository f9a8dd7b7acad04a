"""Recordings to structure and brightness, in chunks."""
