"""Physics-driven self-supervised 3D reconstruction for light-field microscopy.

The names below are imported when first used, so that ``serenet --help`` is instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "build_model": "serenet.models",
    "load_checkpoint": "serenet.models",
    "load_published_state": "serenet.models",
    "save_checkpoint": "serenet.models",
    "correct_motion": "serenet.motion",
    "decompose": "serenet.views",
    "predao": "serenet.view_alignment",
    "reconstruct": "serenet.reconstruction",
    "subtract_background": "serenet.views",
}
__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serenet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
