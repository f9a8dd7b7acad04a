r"""Fine-tune on simulated recordings as users do, and score others by the same microscope.

Of each seed, volumes with truth are recorded by an objective that may not be the configured one
(``--recorded-na``). ``tenet finetune`` gets the first of them as files; the others are enhanced
before and after, without any option. Writes ``finetune.csv`` (each volume) and ``finetune.md``.

Example::

    python tools/studies/finetune_study.py demo packages/tenet/src/tenet/shipped/demo_pretrain.pt \
        --recorded-na 0.6 --seeds 61 62 63 --out studies_finetune
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bead_study import bead, measured
from numpy.typing import NDArray
from torch import Tensor
from two_photon_methods import Array, microscope_parser, record, recording_config, write_tables

import tenet
from scopekit.images.files import write_volume
from scopekit.memory import choose_device
from tenet.config.files import Config, load_config
from tenet.config.loops import TrainLoop
from tenet.data.small_phantom import tubes_and_solids
from tenet.metrics import scores_of
from tenet.network.jnet import JNet

SHAPE = (128, 128, 128)
SCORES = {
    "phantoms": ("iou", "volume_error", "brightness"),
    "beads": ("volume_um3", "sphericity", "z_xy_ratio", "iou"),
}


def volumes_of(
    kind: str, config: Config, seed: int, number: int
) -> list[tuple[NDArray[Any], Array]]:
    """Return truth and brightness of so many volumes; those of other seeds are others."""
    seeds = [1000 * seed + n for n in range(number)]
    if kind == "beads":
        return [bead(config.params, s) for s in seeds]
    return [tubes_and_solids(s, SHAPE) for s in seeds]


def score(
    kind: str, model: JNet, stack: Any, truth: NDArray[Any], bright: Array
) -> dict[str, float]:
    """Return the scores of what the network makes of a stack, no option given."""
    found = tenet.enhance(model, stack)
    structure, threshold = np.asarray(found.structure), model.params.threshold
    if kind == "beads":
        return measured(structure, truth > 0, threshold, model.params.res_lateral)
    inside = truth > 0
    correlation = np.corrcoef(np.asarray(found.brightness)[inside], bright[inside])[0, 1]
    return {**scores_of(structure, truth, threshold), "brightness": float(correlation)}


def tuned(folder: Path, stacks: list[Tensor], options: argparse.Namespace, seed: int) -> JNet:
    """Return the network that ``tenet finetune`` makes in a folder of the weights and stacks."""
    config = load_config(options.config)
    step = config.params.res_lateral
    (folder / "stacks").mkdir()
    for n, stack in enumerate(stacks):
        voxel_um = (config.params.scale * step, step, step)
        write_volume(folder / "stacks" / f"{n}.tif", stack.cpu().numpy(), voxel_um, overwrite=False)
    shutil.copy(options.checkpoint, folder / f"{config.pretrained_model}.pt")
    here = {"path": str(folder), "savefig_path": str(folder)}
    loop = config.section("train_loop", TrainLoop).model_copy(update=here)
    made = tenet.finetune(
        config.model_copy(update={"train_loop": loop}),
        stacks=folder / "stacks",
        minutes=options.minutes,
        device=options.device,
        seed=seed,
    )
    return tenet.load_model(made, config)


def study(options: argparse.Namespace) -> None:
    config = load_config(options.config)
    device = choose_device(options.device)
    by = recording_config(config, options)
    before = tenet.load_model(options.checkpoint, config)
    rows: list[dict[str, Any]] = []
    for seed in options.seeds:
        made = volumes_of(options.kind, config, seed, options.stacks + options.others)
        stacks = [record(by, bright, 1000 * seed + n, device) for n, (_, bright) in enumerate(made)]
        with tempfile.TemporaryDirectory() as folder:
            after = tuned(Path(folder), stacks[: options.stacks], options, seed)
        for n in range(options.stacks, len(made)):
            for name, model in (("before", before), ("after", after)):
                values = score(options.kind, model.to(device), stacks[n], *made[n])
                rows.append({"seed": seed, "volume": n, "weights": name, **values})
        print(table(rows, options.kind), flush=True)
    write_tables(options.out, "finetune", rows, table(rows, options.kind))


def table(rows: list[dict[str, Any]], kind: str) -> str:
    """Return the means of each seed, before and after (Markdown)."""
    names = SCORES[kind]
    lines = [f"| seed | weights | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for seed, weights in dict.fromkeys((row["seed"], row["weights"]) for row in rows):
        mine = [row for row in rows if (row["seed"], row["weights"]) == (seed, weights)]
        means = (f"{np.nanmean([row[name] for row in mine]):.3f}" for name in names)
        lines.append(f"| {seed} | {weights} | {' | '.join(means)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = microscope_parser(__doc__)
    parser.add_argument("--kind", choices=tuple(SCORES), default="phantoms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[61, 62, 63])
    parser.add_argument("--stacks", type=int, default=5, help="to fine-tune on")
    parser.add_argument("--others", type=int, default=5, help="to score")
    parser.add_argument("--minutes", type=float, help="of training, for each seed")
    study(parser.parse_args())


if __name__ == "__main__":
    main()
