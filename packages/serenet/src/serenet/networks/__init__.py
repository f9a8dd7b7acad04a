"""The networks, their tiles, and the checkpoints that hold them."""
