"""A quick look at a light field: its views refocused to a stack of planes."""
