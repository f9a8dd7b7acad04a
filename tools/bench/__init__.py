"""Speed and memory of every step, against its plain formula."""
