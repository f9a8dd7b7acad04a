"""Train the alignment network that ships: ``python tools/weights/train_alignment.py OUT``.

On phantoms as the microscope of the published bead model sees them, made on the spot.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.labels.phantoms import PhantomSet
from scopekit.checkpoints import write_checkpoint
from scopekit.training.loop import train
from scopekit.training.processes import World
from scopekit.training.recipe import Loop
from scopekit.training.run_folder import RunFolder
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import alignment_content
from tenet.alignment.training import AlignmentSettings, AlignmentTraining
from tenet.alignment.vibration import strength_at
from tenet.config.files import Config, load_config
from tenet.microscope.model import ImagingModel

MIXES = ("mixture", "thin-lines", "deformed-solids", "mixture")
SIDE = 176


def field(config: Config, number: int) -> NDArray[np.float32]:
    """Return the noiseless image (24, 176, 176) of phantom ``number``, its maximum 1."""
    rng = np.random.default_rng(number)
    mix = MIXES[number % len(MIXES)]
    count = int(np.exp(rng.uniform(np.log(8), np.log(80)))) * (1 if mix == "mixture" else 3)
    phantom = PhantomSet(
        number=1,
        size=(24 * config.params.scale, SIDE, SIDE),
        voxel_um=(config.params.res_lateral,) * 3,
        seed=int(rng.integers(2**31)),
        counts=(count,),
        objects=mix,
    )
    return imaged(config, np.stack([labelz.astype(np.float32) for _, labelz in phantom.planes(0)]))


def slanted_field(config: Config) -> NDArray[np.float32]:
    """Return the noiseless image of parallel lines that slant by 1 pixel a slice along y."""
    scale = config.params.scale
    rng = np.random.default_rng(0)
    bright = np.zeros((24 * scale, SIDE, SIDE), np.float32)
    for y, x in rng.integers(-24, SIDE, (60, 2)):
        for z in range(len(bright)):
            top = max(y + z // scale, 0)
            bright[z, top : max(y + z // scale + 7, 0), max(x, 0) : max(x + 7, 0)] = 1
    return imaged(config, bright)


def imaged(config: Config, bright: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the noiseless image of a volume (Z, Y, X), its maximum 1."""
    imaging = ImagingModel(config.params)
    with torch.no_grad():
        image = imaging(torch.from_numpy(bright)[None, None], imaging.analytic)[0, 0]
    brightest: NDArray[np.float32] = (image / image.max()).numpy()
    return brightest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="the published configuration of the beads")
    parser.add_argument("out", type=Path, help="folder of the run")
    parser.add_argument("--fields", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=26)
    arguments = parser.parse_args()
    config = load_config(arguments.config)
    fields = [field(config, number) for number in range(arguments.fields)]
    validation = [field(config, number) for number in range(10_000, 10_012)]
    torch.manual_seed(0)
    model = DeepAlignNet()
    strength = strength_at(config.vibration, config.vibration.max_step)
    recipe = AlignmentTraining(
        model,
        fields,
        validation,
        AlignmentSettings(strength),
        voxel_um=(config.params.res_axial, *2 * (config.params.res_lateral,)),
    )
    loop = Loop(
        epochs=arguments.epochs,
        learning_rate=2e-3,
        schedule=lambda epoch: 0.01 + 0.99 * np.cos(np.pi / 2 * epoch / arguments.epochs) ** 2,
        batch_size=2,
        clip_norm=1.0,
        validate_every=2,
    )
    folder = RunFolder(arguments.out, {"fields": arguments.fields}, resume=False, overwrite=True)
    folder.begin()
    train(recipe, loop, folder, World(0, 1, torch.device("cpu")))
    write_checkpoint(arguments.out / "alignment.pt", alignment_content(model), overwrite=True)


if __name__ == "__main__":
    main()
