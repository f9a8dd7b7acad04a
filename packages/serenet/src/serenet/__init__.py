"""Physics-driven self-supervised 3D reconstruction for light-field microscopy.

For notebooks and scripts: NumPy arrays or tensors in, the same kind out; arrays that come out
carry their voxels' size, ``voxel_um``, where a file or a microscope tells it. Volumes are
(Z, Y, X), views (A, Y, X), lengths micrometres.

The names below are imported when first used, so that ``serenet --help`` is instant.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serenet.api.arrays import ScaledArray
    from serenet.api.comparisons import compare
    from serenet.api.files import load_microscope, read_views, read_volume, write_volume
    from serenet.api.pictures import Picture, draw
    from serenet.api.views import (
        correct_motion,
        decompose,
        fit_aberrations,
        predao,
        rectify,
        subtract_background,
        virtual_scan,
    )
    from serenet.api.volumes import deconvolve, reconstruct, refine
    from serenet.comparison.measures import Comparison
    from serenet.networks.checkpoints import (
        build_model,
        load_checkpoint,
        load_published_state,
        save_checkpoint,
    )

__version__ = "0.1.0"
__all__ = [
    "Comparison",
    "Picture",
    "ScaledArray",
    "build_model",
    "compare",
    "correct_motion",
    "decompose",
    "deconvolve",
    "draw",
    "fit_aberrations",
    "load_checkpoint",
    "load_microscope",
    "load_published_state",
    "predao",
    "read_views",
    "read_volume",
    "reconstruct",
    "rectify",
    "refine",
    "save_checkpoint",
    "subtract_background",
    "virtual_scan",
    "write_volume",
]
_HOMES = {
    "Comparison": "serenet.comparison.measures",
    "Picture": "serenet.api.pictures",
    "ScaledArray": "serenet.api.arrays",
    "build_model": "serenet.networks.checkpoints",
    "compare": "serenet.api.comparisons",
    "correct_motion": "serenet.api.views",
    "decompose": "serenet.api.views",
    "deconvolve": "serenet.api.volumes",
    "draw": "serenet.api.pictures",
    "fit_aberrations": "serenet.api.views",
    "load_checkpoint": "serenet.networks.checkpoints",
    "load_microscope": "serenet.api.files",
    "load_published_state": "serenet.networks.checkpoints",
    "predao": "serenet.api.views",
    "read_views": "serenet.api.files",
    "read_volume": "serenet.api.files",
    "reconstruct": "serenet.api.volumes",
    "rectify": "serenet.api.views",
    "refine": "serenet.api.volumes",
    "save_checkpoint": "serenet.networks.checkpoints",
    "subtract_background": "serenet.api.views",
    "virtual_scan": "serenet.api.views",
    "write_volume": "serenet.api.files",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'serenet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
