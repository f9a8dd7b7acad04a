"""Light-field microscopes: wave-optics PSF, projection onto views and its adjoint."""
