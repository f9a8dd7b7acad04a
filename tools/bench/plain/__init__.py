"""The methods once more in plain PyTorch: what benchmarks race against and tests compare with."""
