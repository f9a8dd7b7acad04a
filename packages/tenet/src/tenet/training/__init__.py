"""Pre-training and fine-tuning: losses, modes, runs."""
