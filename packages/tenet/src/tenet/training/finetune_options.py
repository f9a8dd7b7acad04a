"""What fine-tuning is told, and the crops that this names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scopekit.images.selection import WHOLE_FILE, Selection
from tenet.alignment.shifts import alignment_of
from tenet.config.files import Config
from tenet.config.loops import TrainLoop
from tenet.config.sections import StackCrops
from tenet.data.crops import Crop, Crops, RecordingCrops, label_crops, tell_voxels
from tenet.data.recordings import fold_folder
from tenet.training.modes import Mode


@dataclass(frozen=True)
class FinetuneOptions:
    """What to fine-tune, on what.

    Attributes
    ----------
    mode
        ``all``; ``encoder``: the U-Net; ``decoder``: neural PSF and noise; ``old``: all, with the
        state of the optimizer from pre-training.
    fold
        Of a cross-validation: ``<folder>K`` instead of the folders of recordings, and ``_cv_K``
        behind the saved name.
    simulation
        Learn from labels imaged by the pre-trained microscope, instead of from recordings.
    align
        Align the slices of recordings first; of labels, what the network is shown of them.
    selection
        Which channel and position of recordings that have several.
    stored_ewc
        Hold the network by what the weights that it starts from keep of published fine-tuning, see
        `Consolidation`, instead of estimating it from the labels of the pre-training.
    stacks
        Folder of the recordings, instead of the configuration's.
    """

    mode: Mode = Mode.old
    fold: str | None = None
    simulation: bool = False
    align: bool = False
    selection: Selection = WHOLE_FILE
    stored_ewc: bool = False
    stacks: Path | None = None


def recording_or_label_crops(
    config: Config, wanted: FinetuneOptions, *, simulated: bool
) -> tuple[Crops[Crop], Crops[Crop]]:
    """Return crops to train with and to validate with."""
    settings = config.section("train_loop", TrainLoop)
    if simulated:
        return label_crops(config, vibrate=settings.is_vibrate)
    return recording_crops(config, wanted)


def recording_crops(
    config: Config, wanted: FinetuneOptions
) -> tuple[RecordingCrops, RecordingCrops]:
    """Return crops of recordings, to train with and to validate with."""
    settings = config.section("train_loop", TrainLoop)
    parts = []
    for name in ("train_dataset", "val_dataset"):
        data = config.section(name, StackCrops)
        folder = str(wanted.stacks or fold_folder(data.folderpath, wanted.fold))
        parts.append(data.model_copy(update={"folderpath": folder}))
    left_out = config.test_dataset.test_images
    vibration = config.vibration if settings.is_vibrate else None
    how: dict[str, Any] = {"align": wanted.align, "selection": wanted.selection}
    how["shrink"] = settings.recipe == "fast"
    if wanted.align:
        how["alignment"] = alignment_of(config)
    training = RecordingCrops(parts[0], left_out, vibration, **how)
    validation = RecordingCrops(parts[1], left_out, **how)
    for stack in (*training.stacks, *validation.stacks):
        tell_voxels(stack, config.params, "as which it is learnt")
    return training, validation
