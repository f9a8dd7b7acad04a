"""Training configurations of the published programs, imported."""
