"""What is written: volumes with their pictures and settings, as TIFF or OME-Zarr."""
