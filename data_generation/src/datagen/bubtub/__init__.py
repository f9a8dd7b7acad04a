"""Bubbles and tubes for light-field microscopy: volumes and views."""
