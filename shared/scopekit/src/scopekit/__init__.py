"""What the microscopy command-line programs of this repository share, apart from the optics."""

__version__ = "0.1.0"
