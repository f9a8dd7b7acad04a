"""Readers of file formats: each names the axes that it finds, and reads single planes."""
