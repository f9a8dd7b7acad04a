"""What is learned from: recordings, labels, crops."""
