"""What the documentation site makes of the commands and the examples."""
