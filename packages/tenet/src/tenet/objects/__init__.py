"""Objects of a structure: labels, measurements, tables."""
