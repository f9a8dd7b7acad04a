"""Results beside a truth: scores, resolution, figure."""
