"""Perceptual losses, and the pretrained weights that they need."""
