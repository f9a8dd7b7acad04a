"""Two-photon microscopes: PSF, neural PSF, blur."""
