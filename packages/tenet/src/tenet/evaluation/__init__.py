"""Results beside a truth and beside other methods."""
