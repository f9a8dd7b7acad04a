"""Recordings of simulated volumes, and what each method makes of them, for the studies beside."""

import argparse
import copy
import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.config.files import Config
from tenet.config.loops import TrainLoop
from tenet.config.sections import LabelCrops, StackCrops
from tenet.data.crops import RecordingCrop
from tenet.enhancement.stack import enhance
from tenet.evaluation.baselines import interpolate, microscope_operator, rl_tv
from tenet.microscope.imaging import Microscope
from tenet.microscope.model import ImagingModel, analytic_section
from tenet.network.jnet import JNet
from tenet.training.finetuning import Finetuning

Array = NDArray[np.float32]
METHODS = ("interpolation", "RL-TV", "TENET")
CLIP_NORM = 1.0


def record(config: Config, labelz: Array, seed: int, device: torch.device) -> Tensor:
    """Return the recording (Z / scale, Y, X) of brightness (Z, Y, X), with the noise."""
    image = ImagingModel(config.params).to(device)
    params = config.params
    a, sigma = (torch.tensor(v, device=device) for v in (params.poisson_weight, params.sig_eps))
    microscope = Microscope(image, image.analytic, a, sigma)
    return microscope.record(torch.from_numpy(labelz)[None, None].to(device), [seed])[0, 0]


def recording_config(config: Config, options: argparse.Namespace) -> Config:
    """Return the configuration that makes the recordings: with the aperture and noise asked for."""
    updates: dict[str, float] = {}
    if options.recorded_na is not None:
        updates["NA"] = options.recorded_na
    if options.noise is not None:
        updates["poisson_weight"], updates["sig_eps"] = options.noise
    return config.model_copy(update={"params": config.params.model_copy(update=updates)})


def interpolated(stack: Tensor, scale: int) -> Array:
    """Return the stack with ``scale`` times the planes, its minimum 0 and its maximum 1."""
    return _scaled(interpolate(stack, scale))


def deconvolved(config: Config, stack: Tensor) -> Array:
    """Return the stack deconvolved (RL-TV), with ``scale`` times the planes, its maximum 1."""
    section = analytic_section(config.params).to(stack.device)
    operator = microscope_operator(config.params, section)
    return _scaled(rl_tv(stack, operator))


def enhanced(model: JNet, stack: Tensor, *, as_recorded: bool) -> Array:
    """Return the structure that the network finds, (Z, Y, X), 0 to 1.

    ``as_recorded`` shows it the stack in the microscope's own scale, as in pre-training, and not
    scaled as ``tenet enhance`` does by itself.
    """
    found = enhance(model, stack, value_range=(0, 1) if as_recorded else None)
    return np.asarray(found.structure.numpy(), np.float32)


@dataclass
class StackRegions:
    """Random regions of recorded stacks, to fine-tune on."""

    stacks: list[Tensor]
    data: LabelCrops | StackCrops
    number: int = 1

    def draw(self, rng: np.random.Generator) -> RecordingCrop:
        """Draw a region of the plane, as large as a crop, in all depths; bright ones rather."""
        stack = self.stacks[int(rng.integers(len(self.stacks)))]
        sides = [min(n, c) for n, c in zip(stack.shape[1:], self.data.cropsize[1:], strict=True)]
        found = []
        for _ in range(4):
            y, x = (
                slice(first := int(rng.integers(n - side + 1)), first + side)
                for n, side in zip(stack.shape[1:], sides, strict=True)
            )
            found.append(stack[:, y, x])
        region = max(found, key=lambda part: float(part.mean()))
        return RecordingCrop("a recording", torch.ones(1, *region.shape), None, region[None].cpu())

    def begin_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""


def finetuned(
    model: JNet,
    config: Config,
    stacks: list[Tensor],
    *,
    steps: int,
    seed: int,
    as_recorded: bool = False,
) -> JNet:
    """Return a copy of a model, trained on by the losses of ``tenet finetune``.

    Parameters
    ----------
    model
        Pre-trained.
    config
        Its section ``train_loop`` tells weights and rate.
    stacks
        Recordings (Z, Y, X).
    steps
        How many.
    seed
        Of the places.
    as_recorded
        See `enhanced`.
    """
    settings = config.section("train_loop", TrainLoop)
    updates = {"reconstruct": True, "apply_vq": settings.qloss_weight > 0}
    tuned = JNet(config.params.model_copy(update=updates)).to(stacks[0].device)
    tuned.load_state_dict(copy.deepcopy(model.state_dict()))
    data = config.section("pretrain_dataset", LabelCrops)
    if not as_recorded:
        stacks = [(stack - stack.min()) / (stack.max() - stack.min()) for stack in stacks]
    regions = StackRegions(stacks, data)
    recipe = Finetuning(tuned, settings, regions, regions)
    learnt = [p for p in tuned.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=settings.lr)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    tuned.train()
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        crops = [recipe.sample(0, rng) for _ in range(settings.batch_size)]
        loss = torch.stack([*recipe.losses(tuned, crops).values()]).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, CLIP_NORM)
        optimizer.step()
    return tuned.eval()


def results(
    config: Config, model: JNet, stack: Tensor, *, as_recorded: bool = False
) -> dict[str, Array]:
    """Return what each of `METHODS` makes of a stack, (Z, Y, X), 0 to 1; see `enhanced`."""
    made = (
        interpolated(stack, config.params.scale),
        deconvolved(config, stack),
        enhanced(model, stack, as_recorded=as_recorded),
    )
    return dict(zip(METHODS, made, strict=True))


def _scaled(volume: Tensor) -> Array:
    low, high = volume.min(), volume.max()
    return np.asarray(((volume - low) / (high - low)).cpu().numpy(), np.float32)


def microscope_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of a network and of the microscope that records, see `recording_config`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a configuration (JSON)")
    parser.add_argument("checkpoint", type=Path, help="weights of its network")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and figure")
    parser.add_argument(
        "--recorded-na",
        type=float,
        help="numerical aperture that records; methods go by the configuration's all the same",
    )
    parser.add_argument(
        "--noise",
        type=float,
        nargs=2,
        metavar=("SHARE", "REST"),
        help="of the recordings, instead of the configuration's poisson_weight and sig_eps",
    )
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    return parser


def study_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that the studies of beads and lines take."""
    parser = microscope_parser(description)
    parser.add_argument(
        "--finetune-steps", type=int, default=0, help="on the recordings themselves, before"
    )
    parser.add_argument(
        "--as-recorded",
        action="store_true",
        help="do not scale recordings for the network, which then must know theirs",
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def write_tables(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], text: str) -> None:
    """Write rows as ``name.csv``, and the table made of them as ``name.md``; print that."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)
