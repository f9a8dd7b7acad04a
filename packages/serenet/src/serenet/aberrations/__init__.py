"""Digital adaptive optics: the shifts that aberrations gave the views."""
