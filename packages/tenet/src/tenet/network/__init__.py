"""JNet: its layers, and the files of its weights."""
