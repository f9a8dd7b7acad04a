"""What a file is, and what comes next."""
