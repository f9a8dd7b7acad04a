"""Volume files: TIFF, OME-Zarr and others, read and written by planes."""
