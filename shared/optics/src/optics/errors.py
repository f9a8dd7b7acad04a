"""The exception for parameters and files that the user can mend."""


class OpticsError(ValueError):
    """A physical parameter or a PSF file that cannot be used; the text names the remedy."""
