"""Training a configuration's own alignment network, on its labels as its microscope sees them."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scopekit.checkpoints import read_checkpoint, write_checkpoint
from scopekit.errors import UserError
from scopekit.memory import choose_device
from scopekit.outputs import make_folder, require_new, require_writable
from scopekit.progress import progress_bar, say
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.recipe import Loop
from scopekit.training.run_folder import RunFolder, claimed_run, read_last
from tenet import __version__
from tenet.alignment.modes import JUDGED, AlignmentLoss
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import alignment_file
from tenet.alignment.training import AlignmentSettings, AlignmentTraining, Judge
from tenet.alignment.vibration import strength_at
from tenet.config.files import Config, as_config
from tenet.config.loops import PretrainLoop
from tenet.config.sections import LabelCrops
from tenet.data.crops import PhantomCrops
from tenet.microscope.model import ImagingModel
from tenet.network.jnet import JNet, hill
from tenet.network.weights import load_model, pretrained_file
from tenet.training.runs import require_file

EPOCHS = 26
_RATE = 2e-3
_SIDE, _CROP, _SMALLEST_CROP, _MARGIN, _SMALLEST_MARGIN = 176, 96, 64, 12, 8
_MOST_FIELDS = 64
_DRAWS = 100
_DARKEST = 1e-4  # below, the Hill function is too steep for a gradient


def train_aligner(
    config: Config | str | Path,
    *,
    loss_modes: Sequence[str] = ("shift",),
    epochs: int = EPOCHS,
    device: str = "auto",
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
) -> Path:
    """Train the network that aligns slices, for a configuration's labels, microscope, vibration.

    Parameters
    ----------
    config
        A configuration: itself, its path, or its name.
    loss_modes
        What it learns by, see `AlignmentLoss`: the shifts, which are known; what is seen; or
        what the pre-trained JNet sees in it.
    epochs
        Of as many stacks as ``pretrain_dataset.I`` says.
    device, seed, resume, overwrite
        See `tenet.pretrain`.

    Returns
    -------
    Path
        The file of the best network, see `alignment_file`. `tenet finetune`, evaluations and
        the classes for notebooks align by it.

    Raises
    ------
    UserError
        If the configuration or the labels are wrong, or if there is a network already.
    """
    config = as_config(config)
    unknown = [mode for mode in loss_modes if mode not in list(AlignmentLoss)]
    if unknown or not loss_modes:
        raise UserError(f"loss mode {', '.join(unknown)}; allowed: {', '.join(AlignmentLoss)}")
    modes = [AlignmentLoss(mode) for mode in loss_modes]
    target = alignment_file(config)
    require_new(target, overwrite=overwrite or resume, another="another align_model")
    require_writable(target.parent)
    loop = config.section("pretrain_loop", PretrainLoop)
    settings = {
        "version": __version__,
        "command": "train-aligner",
        "epochs": epochs,
        "loss_modes": [mode.value for mode in modes],
        "seed": seed,
        **config.model_dump(mode="json"),
    }
    run_path = Path(loop.savefig_path) / target.stem
    world = World(0, 1, choose_device(device))

    def rate(epoch: float) -> float:
        return 0.01 + 0.99 * math.cos(math.pi / 2 * epoch / epochs) ** 2

    how = Loop(
        epochs=epochs,
        learning_rate=_RATE,
        schedule=rate,
        batch_size=2,
        clip_norm=1.0,
        seed=seed,
        validate_every=2 if epochs > 1 else 1,
    )
    with claimed_run(run_path, world):
        folder = RunFolder(
            run_path, settings, resume=resume, overwrite=overwrite, another="another align_model"
        )
        last = read_last(run_path) if resume else None
        recipe = _recipe(config, modes, seed, world.device)
        folder.begin()
        make_folder(target.parent)
        train(recipe, how, folder, world, last)
        best = read_checkpoint(folder.best)
        kept = {name: best[name] for name in ("network", "arguments", "state")}
        write_checkpoint(target, kept, overwrite=True)
    say(f"{target}: the best network, of epoch {best['training']['epoch']}")
    return target


def _recipe(
    config: Config, loss_modes: Sequence[AlignmentLoss], seed: int, device: torch.device
) -> AlignmentTraining:
    training, validation = (
        config.labels(name) for name in ("pretrain_dataset", "pretrain_val_dataset")
    )
    side = min(_SIDE, *training.size[1:], *validation.size[1:])
    margin = min(_MARGIN, (side - _SMALLEST_CROP) // 2)
    if margin < _SMALLEST_MARGIN:
        least = _SMALLEST_CROP + 2 * _SMALLEST_MARGIN
        raise UserError(
            f"pretrain_dataset.size is {list(training.size)}; aligning is learnt from labels of at "
            f"least {least} x {least} pixels; make larger ones"
        )
    judges = _judges(config, loss_modes, device)
    imaging = ImagingModel(config.params).to(device)
    torch.manual_seed(seed)
    axial, lateral = config.params.res_axial, config.params.res_lateral
    return AlignmentTraining(
        DeepAlignNet().to(device),
        _fields(training, side, imaging, seed),
        _fields(validation, side, imaging, validation.seed),
        AlignmentSettings(
            strength_at(config.vibration, config.vibration.max_step),
            crop=min(_CROP, side - 2 * margin),
            margin=margin,
            loss_mode=tuple(loss_modes),
            stacks_an_epoch=training.I,
        ),
        judges=judges,
        voxel_um=(axial, lateral, lateral),
    )


def _fields(
    data: LabelCrops, side: int, imaging: ImagingModel, seed: int
) -> list[NDArray[np.float32]]:
    """Return noiseless images (Z, side, side) of labels, the maximum of each 1."""
    crop = data.model_copy(update={"cropsize": (data.cropsize[0], side, side)})
    crops = PhantomCrops(crop, turn=True)
    fields: list[NDArray[np.float32]] = []
    number = min(data.I, _MOST_FIELDS)
    with progress_bar("imaging labels", number) as advance:
        for draw in range(_DRAWS * number):
            labelz = crops.draw(np.random.default_rng([seed, draw])).labelz
            if not labelz.any():
                continue
            with torch.no_grad():
                image = imaging(labelz[None].to(imaging.analytic), imaging.analytic)[0, 0]
            fields.append((image / image.max()).cpu().numpy())
            advance()
            if len(fields) == number:
                return fields
    raise UserError(f"{data.folderpath}: the labels are almost empty; make them anew")


def _judges(
    config: Config, loss_modes: Sequence[AlignmentLoss], device: torch.device
) -> dict[AlignmentLoss, Judge]:
    """Return what compares stacks by the pre-trained network, where a loss needs it."""
    if not set(JUDGED) & set(loss_modes):
        return {}
    start = pretrained_file(config)
    require_file(start, "run tenet pretrain first, or check pretrained_model")
    model: JNet = load_model(start, config, device=device).requires_grad_(False)

    def features(stack: Tensor) -> list[Tensor]:
        return [model.features(_lifted(stack))]

    def structure(stack: Tensor) -> list[Tensor]:
        return [model.enhance(_lifted(stack))[0]]

    return {AlignmentLoss.perceptual: features, AlignmentLoss.segmentation: structure}


def _lifted(stack: Tensor) -> Tensor:
    return hill(stack.clamp(min=_DARKEST))
