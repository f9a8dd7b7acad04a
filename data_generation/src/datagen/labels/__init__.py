"""Labels for two-photon microscopy: phantoms, beads, lines."""
