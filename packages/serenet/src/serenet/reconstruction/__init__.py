"""Views to volumes by a trained network, with physics refinement."""
