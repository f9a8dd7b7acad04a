"""The training loop: recipes, runs that resume exactly, several processes."""
