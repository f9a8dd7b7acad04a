"""Raw camera frames to views: the lattice of microlenses, and resampling."""
