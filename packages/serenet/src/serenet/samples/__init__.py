"""Recordings of others that ship, each under its own licence."""
