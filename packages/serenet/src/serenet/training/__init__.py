"""Training of every network: settings, data, recipes, runs."""
