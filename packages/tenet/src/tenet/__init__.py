"""Unsupervised enhancement of two-photon microscopy."""

import importlib
from typing import Any

__version__ = "0.1.0"

# Imported when asked for, so that `tenet --help` needs no PyTorch.
_HOMES = {
    "BeadsInference": "tenet.inference",
    "Config": "tenet.config.files",
    "JNet": "tenet.network.jnet",
    "MicrogliaInference": "tenet.inference",
    "SimulationInference": "tenet.inference",
    "load_config": "tenet.config.files",
    "load_published_state": "tenet.network.jnet",
}
__all__ = [
    "BeadsInference",
    "Config",
    "JNet",
    "MicrogliaInference",
    "SimulationInference",
    "load_config",
    "load_published_state",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
