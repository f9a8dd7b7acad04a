"""Measure whether fine-tuning without truth finds structure, and the PSF, of another microscope.

Phantoms are imaged with an axially longer PSF than the one that the demo's weights were trained
for. For each, the weights are fine-tuned on that image alone, by the losses of ``tenet finetune``
but without EWC and masks, and compared before and after: overlap with the true structure, and
distance of the neural PSF's section from the true one. As a control, each is also imaged with the
PSF that the weights were trained for: what fine-tuning changes there is not owed to the PSF.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scopekit.settings import write_yaml
from tenet.config.files import load_config
from tenet.config.sections import TrainLoop
from tenet.data.crops import Crop
from tenet.data.small_phantom import tubes_and_solids
from tenet.demo import scores_of
from tenet.microscope.imaging import Microscope
from tenet.microscope.model import analytic_section
from tenet.network.jnet import JNet, hill
from tenet.network.weights import WEIGHTS, load_model
from tenet.training.finetuning import Finetuning

SHAPE = (64, 96, 96)
CROP = 48
NAMES = ("iou_before", "iou_after", "psf_error_before", "psf_error_after")


@dataclass
class ImageCrops:
    """Random crops of one image."""

    image: torch.Tensor
    data: object = None
    number: int = 1

    def draw(self, rng: np.random.Generator) -> Crop:
        """Draw a crop at a uniform place in the plane."""
        y, x = (int(rng.integers(n - CROP + 1)) for n in self.image.shape[-2:])
        crop = self.image[..., y : y + CROP, x : x + CROP].clone()
        return Crop("phantom", torch.ones_like(crop), 0, image=crop)


def structure_of(model: JNet, image: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.eval().enhance(hill(image[None]))[0][0, 0].numpy()


def psf_error(model: JNet, section: torch.Tensor) -> float:
    with torch.no_grad():
        return float((model.eval().image.section() - section).square().mean().sqrt())


def try_volume(
    seed: int, na: float, steps: int, learning_rate: float, ploss_weight: float
) -> dict[str, float]:
    config = load_config("demo")
    truth, brightness = tubes_and_solids(seed, SHAPE)
    params = config.params.model_copy(update={"reconstruct": True, "apply_vq": True})
    model = load_model(WEIGHTS / "demo_pretrain.pt", params)
    model.image.fit(params.nipsf_loss_target, 0)
    section = analytic_section(params.model_copy(update={"NA": na}))
    mine = Microscope.of(model)
    microscope = Microscope(mine.image, section, mine.a, mine.sigma)
    image = microscope.record(torch.from_numpy(brightness)[None, None], [seed])[0]

    threshold = params.threshold
    row = {
        "seed": seed,
        "na": na,
        "iou_before": scores_of(structure_of(model, image), truth, threshold)["iou"],
    }
    row["psf_error_before"] = psf_error(model, section)
    settings = config.section("train_loop", TrainLoop)
    settings = settings.model_copy(update={"ploss_weight": ploss_weight})
    crops = ImageCrops(image)
    recipe = Finetuning(model, settings, crops, crops)
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learnt, lr=learning_rate)
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        terms = recipe.losses(model, [recipe.sample(0, rng)])
        torch.stack([*terms.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimizer.step()
    row["iou_after"] = scores_of(structure_of(model, image), truth, threshold)["iou"]
    row["psf_error_after"] = psf_error(model, section)
    print(seed, na, *(f"{row[name]:.4f}" for name in NAMES), sep="\t", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--volumes", type=int, default=5)
    parser.add_argument("--first", type=int, default=1000, help="number of the first volume")
    parser.add_argument("--na", type=float, default=0.6, help="of the true PSF; trained for: 0.7")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--ploss-weight", type=float, default=1.0)
    parser.add_argument("--out", type=Path, help="YAML file for the table")
    options = parser.parse_args()
    print("volume", "na", *NAMES, sep="\t")
    trained = load_config("demo").params.NA
    rows = [
        try_volume(seed, na, options.steps, options.learning_rate, options.ploss_weight)
        for na in (options.na, trained)
        for seed in range(options.first, options.first + options.volumes)
    ]
    for na in (options.na, trained):
        means = (np.mean([row[name] for row in rows if row["na"] == na]) for name in NAMES)
        print("mean", na, *(f"{mean:.4f}" for mean in means), sep="\t")
    if options.out:
        write_yaml(
            options.out, {"options": {**vars(options), "out": None}, "rows": rows}, overwrite=True
        )


if __name__ == "__main__":
    main()
