"""Configurations: files, and what their sections hold."""
