"""Unsupervised enhancement of two-photon microscopy.

From a recording to its objects::

    model = tenet.load_model("demo_pretrain")
    recording = tenet.read_recording("tenet_demo/image.tif", value_range=(0, 1))
    found = tenet.enhance(model, recording)
    labels = tenet.label_objects(found.structure, model.params.threshold)
    for one in tenet.measure_objects(labels, found.voxel_um, found.brightness):
        print(one.label, one.volume_um3, one.sphericity)

Arrays are (Z, Y, X), lengths in um; NumPy arrays or tensors in, the same kind out.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenet.alignment.shifts import align
    from tenet.config.files import Config, load_config
    from tenet.data.recordings import Recording, read_recording
    from tenet.enhancement.stack import Enhanced, enhance
    from tenet.evaluation.baselines import rl_tv
    from tenet.inference import BeadsInference, MicrogliaInference, SimulationInference
    from tenet.network.jnet import JNet
    from tenet.network.weights import load_model, load_published_state
    from tenet.objects.measurements import ObjectMeasurement, measure_objects
    from tenet.objects.selection import label_objects
    from tenet.training.finetuning import finetune
    from tenet.training.pretraining import pretrain

__version__ = "0.1.0"
__all__ = [
    "BeadsInference",
    "Config",
    "Enhanced",
    "JNet",
    "MicrogliaInference",
    "ObjectMeasurement",
    "Recording",
    "SimulationInference",
    "align",
    "enhance",
    "finetune",
    "label_objects",
    "load_config",
    "load_model",
    "load_published_state",
    "measure_objects",
    "pretrain",
    "read_recording",
    "rl_tv",
]
# Imported when asked for, so that `tenet --help` needs no PyTorch.
_HOMES = {
    "BeadsInference": "tenet.inference",
    "Config": "tenet.config.files",
    "Enhanced": "tenet.enhancement.stack",
    "JNet": "tenet.network.jnet",
    "MicrogliaInference": "tenet.inference",
    "ObjectMeasurement": "tenet.objects.measurements",
    "Recording": "tenet.data.recordings",
    "SimulationInference": "tenet.inference",
    "align": "tenet.alignment.shifts",
    "enhance": "tenet.enhancement.stack",
    "finetune": "tenet.training.finetuning",
    "label_objects": "tenet.objects.selection",
    "load_config": "tenet.config.files",
    "load_model": "tenet.network.weights",
    "load_published_state": "tenet.network.weights",
    "measure_objects": "tenet.objects.measurements",
    "pretrain": "tenet.training.pretraining",
    "read_recording": "tenet.data.recordings",
    "rl_tv": "tenet.evaluation.baselines",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tenet' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
