"""The functions of ``import serenet``: NumPy arrays or tensors in, the same kind out."""
