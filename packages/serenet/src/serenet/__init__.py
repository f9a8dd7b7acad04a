"""Physics-driven self-supervised 3D reconstruction for light-field microscopy.

The names below are imported when first used, so that ``serenet --help`` is instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "build_model": "serenet.networks.checkpoints",
    "load_checkpoint": "serenet.networks.checkpoints",
    "load_published_state": "serenet.networks.checkpoints",
    "save_checkpoint": "serenet.networks.checkpoints",
    "correct_motion": "serenet.motion.correction",
    "decompose": "serenet.views.refocusing",
    "predao": "serenet.aberrations.correlation",
    "reconstruct": "serenet.reconstruction.volume",
    "subtract_background": "serenet.views.refocusing",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serenet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
