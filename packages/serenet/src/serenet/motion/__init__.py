"""Motion correction of scanned views."""
