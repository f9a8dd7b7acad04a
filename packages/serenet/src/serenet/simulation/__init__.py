"""Light fields that a microscope would record."""
