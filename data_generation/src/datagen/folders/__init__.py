"""Datasets as folders of numbered items, made by several processes."""
