"""Pre-train JNet for so many minutes on phantoms made in memory, for the studies beside this file.

Microscope, network, crops, loss and rate are those of a configuration; its section
``simulation_data_generation`` tells how many phantoms of every kind to make, how large and how
crowded. The rate rises over the first twentieth of the time, then falls to 0 with the cosine.
Writes the weights in half precision, and beside them how they came about (YAML).

Example::

    python tools/studies/two_photon_training.py tools/studies/two_photon_small.json weights.pt

--minutes 30 trains for so long.
"""

import argparse
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from datagen.labels.painting import Placed, painted_planes
from datagen.labels.phantom_config import SimulationConfig, read_simulation_config
from datagen.labels.phantoms import MIXES, ObjectMix, draw_object, object_counts
from scopekit.checkpoints import write_checkpoint
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.settings import find_config, write_yaml
from scopekit.training.processes import World
from tenet.config.files import load_config
from tenet.config.loops import PretrainLoop
from tenet.config.sections import LabelCrops, StackCrops
from tenet.data.augmentation import draw_turn, turned
from tenet.data.crops import LabelCrop
from tenet.metrics import structure_iou
from tenet.network.jnet import JNet, hill
from tenet.network.weights import checkpoint_of
from tenet.training.batches import LabelBatch
from tenet.training.pretraining import Pretraining, new_model

# Two published kinds; and solids of all sizes among lines, as the published mixture has few.
KINDS = {
    "mixture": MIXES["mixture"],
    "thin-lines": MIXES["thin-lines"],
    "solids": ObjectMix(0.5, (120, 239), 7, 11, (8, 29)),
}
LEVELS = 255  # of brightness, in memory
WARM_UP = 0.05
CLIP_NORM = 1.0
FIRST_HELD_OUT = 10_000


@dataclass
class PhantomsInMemory:
    """Crops of phantoms that no file holds.

    Attributes
    ----------
    data
        How large the crops are.
    volumes
        Brightness (Z, Y, X) in `LEVELS`; 0 is outside of all objects.
    turn
        Whether to turn and flip crops.
    number
        Of crops in an epoch; nobody counts them here.
    """

    data: LabelCrops | StackCrops
    volumes: list[NDArray[np.uint8]]
    turn: bool = True
    number: int = 1

    def draw(self, rng: np.random.Generator) -> LabelCrop:
        """Draw a crop at a uniform place."""
        volume = self.volumes[int(rng.integers(len(self.volumes)))]
        corner = [
            int(rng.integers(n - c + 1))
            for n, c in zip(volume.shape, self.data.cropsize, strict=True)
        ]
        box = tuple(slice(c, c + n) for c, n in zip(corner, self.data.cropsize, strict=True))
        bright = volume[box].astype(np.float32) / np.float32(LEVELS)
        if self.turn:
            bright = turned(bright, draw_turn(rng, square=bright.shape[1] == bright.shape[2]))
        labelz = torch.from_numpy(np.ascontiguousarray(bright))[None]
        mask, seed = torch.ones(1, *self.data.image_crop), int(rng.integers(2**31))
        return LabelCrop("a phantom", mask, None, (labelz > 0).float(), labelz, seed)

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""


class ScaledPretraining(Pretraining):
    """Pre-training on images of any scale, as recordings are scaled to a maximum of 1.

    An image is multiplied by a factor between 1 and what makes its maximum 1, drawn by its noise's
    seed.
    """

    def batch(self, crops: Sequence[LabelCrop]) -> LabelBatch:
        """Return what the network is shown of these crops."""
        batch = super().batch(crops)
        peaks = batch.image.amax(dim=(1, 2, 3, 4), keepdim=True).clamp(min=1e-3)
        shares = [np.random.default_rng(crop.noise_seed).random() for crop in crops]
        power = torch.tensor(shares, dtype=peaks.dtype, device=peaks.device)
        image = batch.image * peaks ** -power.reshape(peaks.shape)
        return LabelBatch(hill(image), image, batch.labelx, batch.labelz)


def phantom(kind: str, size: tuple[int, int, int], count: int, seed: int) -> NDArray[np.uint8]:
    """Draw the brightness of a phantom, 1 to `LEVELS` in objects."""
    mix = KINDS[kind]

    def draw(rng: np.random.Generator) -> Placed:
        # So that objects reach in from all sides.
        corner = rng.integers(-max(mix.line_length[1] // 4, 1), size)
        return draw_object(mix, rng), corner

    planes = painted_planes(size, count, draw, np.random.default_rng(seed))
    return np.stack([np.ceil(LEVELS * labelz).astype(np.uint8) for _, labelz in planes])


def phantoms(
    numbers: SimulationConfig, data: LabelCrops, kinds: list[str], seed: int, jobs: int
) -> tuple[PhantomsInMemory, PhantomsInMemory]:
    """Draw the phantoms to train with, and those that are held out."""
    found = []
    with ProcessPoolExecutor(jobs) as pool:
        for first, number, most, fewest in (
            (seed, numbers.train_num, numbers.train_object_num_max, numbers.train_object_num_min),
            (
                seed + FIRST_HELD_OUT,
                numbers.valid_num,
                numbers.valid_object_num_max,
                numbers.valid_object_num_min,
            ),
        ):
            made = [
                pool.submit(phantom, kind, numbers.image_size, count, first + i)
                for kind in kinds
                for i, count in enumerate(object_counts(number, most, fewest))
            ]
            found.append([future.result() for future in made])
    return PhantomsInMemory(data, found[0]), PhantomsInMemory(data, found[1], turn=False)


def train(
    recipe: Pretraining, settings: PretrainLoop, minutes: float, seed: int
) -> tuple[int, list[float]]:
    """Train for so long; return the steps, and the mean loss in every tenth of the time."""
    model = recipe.model
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=settings.lr)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model.train()
    losses: list[list[torch.Tensor]] = [[] for _ in range(10)]
    started, step = time.perf_counter(), 0

    def draw() -> list[LabelCrop]:
        return [recipe.sample(0, rng) for _ in range(settings.batch_size)]

    pool = ThreadPoolExecutor(1)
    ahead = pool.submit(draw)
    while (share := (time.perf_counter() - started) / (60 * minutes)) < 1:
        rate = min(share / WARM_UP + 0.01, 1) * 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate * settings.lr
        optimizer.zero_grad(set_to_none=True)
        crops, ahead = ahead.result(), pool.submit(draw)
        loss = torch.stack([*recipe.losses(model, crops).values()]).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, CLIP_NORM)
        optimizer.step()
        losses[int(10 * share)].append(loss.detach())
        step += 1
        if step % 100 == 0:
            print(f"step {step}, {100 * share:.0f} %, loss {float(loss.detach()):.4f}", flush=True)
    pool.shutdown()
    return step, [float(torch.stack(part).mean()) for part in losses if part]


def held_out_iou(recipe: Pretraining, crops: PhantomsInMemory, number: int) -> float:
    """Return the mean overlap of structure and truth in crops of phantoms that are held out."""
    recipe.model.eval()
    rng = np.random.default_rng(0)
    overlaps = []
    with torch.no_grad():
        for _ in range(number):
            batch = recipe.batch([crops.draw(rng)])
            structure, _ = recipe.model.enhance(batch.shown)
            overlaps.append(structure_iou(structure, batch.labelx, recipe.model.params.threshold))
    return float(np.mean(overlaps))


def half_precision(model: JNet) -> dict[str, torch.Tensor]:
    """Return the model's state, its fractions in 16 bits."""
    state = checkpoint_of(model)["state"]
    return {name: t.half() if t.is_floating_point() else t for name, t in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a configuration (JSON)")
    parser.add_argument("out", type=Path, help="file for the weights")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=1, help="phantoms made at the same time")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keep_freed_memory()
    device = choose_device(options.device)
    config = load_config(options.config)
    settings = config.section("pretrain_loop", PretrainLoop)
    started = time.perf_counter()
    numbers = read_simulation_config(find_config(options.config, "tenet"))
    data = config.section("pretrain_dataset", LabelCrops)
    training, held_out = phantoms(numbers, data, options.kinds, options.seed, options.jobs)
    print(f"{len(training.volumes)} phantoms in {time.perf_counter() - started:.0f} s", flush=True)
    model = new_model(config, World(0, 1, device), options.seed)
    recipe = ScaledPretraining(model, settings, training, held_out)
    steps, losses = train(recipe, settings, options.minutes, options.seed)
    iou = held_out_iou(recipe, held_out, 8)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(options.out, half_precision(model), overwrite=True)
    told = {
        "config": config.name,
        "kinds": options.kinds,
        "minutes": options.minutes,
        "steps": steps,
        "batch_size": settings.batch_size,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "parameters": sum(p.numel() for p in model.network_parameters().values()),
        "loss_by_tenths": losses,
        "held_out_iou": iou,
        "seed": options.seed,
    }
    write_yaml(options.out.with_suffix(".yaml"), told, overwrite=True)
    print(told)


if __name__ == "__main__":
    main()
