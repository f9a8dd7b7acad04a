r"""Measure simulated beads of 1 um radius after TENET, RL-TV and interpolation.

Single beads at places between the voxels are imaged by the microscope of the configuration, with
its noise. Every method is measured at threshold 0.5 and at the threshold where the mean volume
comes nearest to the truth. Writes ``beads.csv`` (every bead), ``beads.md`` (the table) and
``beads.png``.

Example: python tools/studies/bead_study.py tools/studies/two_photon_network.json weights.pt \
        --out studies
"""

import argparse
import time
from pathlib import Path

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label
from two_photon_methods import (
    METHODS,
    Array,
    finetuned,
    record,
    recording_config,
    results,
    study_parser,
    write_tables,
)

from datagen.labels.beads import bead_volume_um3, covered_plane, least_share, planes_of
from scopekit.memory import choose_device
from tenet.config.files import Config, load_config
from tenet.config.sections import Params
from tenet.evaluation.statistics import statistics_of
from tenet.network.weights import load_model
from tenet.objects.measurements import measure_objects

matplotlib.use("Agg")
from matplotlib import pyplot as plt

RADIUS_UM = 1.0
SIZE_UM = (12.0, 4.8, 4.8)
THRESHOLDS = np.round(np.arange(0.02, 0.99, 0.02), 2)
QUANTITIES = ("volume_um3", "sphericity", "z_xy_ratio", "iou")
PUBLISHED = (
    ("RL-TV, published, 30 real beads, best threshold", "3.909", "0.332", "3.03"),
    ("TENET, published, 30 real beads, threshold 0.5", "4.003 ± 0.198", "0.908", "1.94"),
)


def bead(params: Params, seed: int) -> tuple[NDArray[np.bool_], Array]:
    """Return structure and brightness of a bead near the middle of a volume of `SIZE_UM`."""
    rng = np.random.default_rng(seed)
    step = np.full(3, params.res_lateral)
    centre = np.array(SIZE_UM) / 2 + rng.uniform(-0.5, 0.5, 3) * params.res_axial
    planes, rows, columns = (round(n / params.res_lateral) for n in SIZE_UM)
    bright = np.zeros((planes // params.scale * params.scale, rows, columns), np.float32)
    for z in planes_of(centre, RADIUS_UM, step):
        place, share = covered_plane(centre, RADIUS_UM, step, z)
        bright[z][place] = share
    return bright >= least_share(centre, RADIUS_UM, step), bright


def largest_object(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the largest connected part of a mask; all of it where there is none."""
    labels, number = label(mask)
    if number == 0:
        return mask
    found: NDArray[np.bool_] = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    return found


def best_threshold(volumes: list[Array], voxel_um: float) -> float:
    """Return the threshold where the mean volume comes nearest to that of a bead."""
    found = [np.mean([(v >= t).sum() for v in volumes]) * voxel_um**3 for t in THRESHOLDS]
    nearest = np.abs(np.array(found) - bead_volume_um3(RADIUS_UM)).argmin()
    return float(THRESHOLDS[nearest])


def measured(
    volume: Array, truth: NDArray[np.bool_], threshold: float, voxel_um: float
) -> dict[str, float]:
    """Return `QUANTITIES` of the largest object; NaN where there is none."""
    found = largest_object(volume >= threshold)
    if not found.any():
        return dict.fromkeys(QUANTITIES, np.nan)
    measurement = measure_objects(found.astype(np.int32), 3 * (voxel_um,))[0]
    overlap = float((found & truth).sum() / (found | truth).sum())
    values = {name: getattr(measurement, name) for name in QUANTITIES[:-1]}
    return {**values, "iou": overlap}


def rows_of(
    made: list[dict[str, Array]], truths: list[NDArray[np.bool_]], voxel_um: float
) -> list[dict[str, object]]:
    """Measure all beads of all methods at both thresholds."""
    true = {"truth": [t.astype(np.float32) for t in truths]}
    volumes = true | {m: [bead_results[m] for bead_results in made] for m in METHODS}
    rows: list[dict[str, object]] = []
    for method, of_method in volumes.items():
        thresholds = {"0.5": 0.5}
        if method != "truth":
            thresholds["best"] = best_threshold(of_method, voxel_um)
        for kind, threshold in thresholds.items():
            for number, (volume, truth) in enumerate(zip(of_method, truths, strict=True)):
                values = measured(volume, truth, threshold, voxel_um)
                rows.append(
                    {"method": method, "kind": kind, "threshold": threshold, "bead": number}
                    | {name: round(value, 4) for name, value in values.items()}
                )
    return rows


def table(rows: list[dict[str, object]]) -> str:
    """Return the table (Markdown): means with 95 % confidence intervals."""
    lines = [
        "| method | threshold | beads found | volume, µm³ | sphericity | z/xy | overlap (IoU) |",
        "|---|---|---|---|---|---|---|",
        f"| ideal | | | {bead_volume_um3(RADIUS_UM):.3f} | 1 | 1 | 1 |",
    ]
    for method, kind in dict.fromkeys((row["method"], row["kind"]) for row in rows):
        mine = [row for row in rows if (row["method"], row["kind"]) == (method, kind)]
        values = {n: np.array([row[n] for row in mine], float) for n in QUANTITIES}
        seen = ~np.isnan(values["iou"])
        found = [statistics_of(values[name][seen].tolist()) for name in QUANTITIES]
        cells = " | ".join(f"{s.mean:.3f} ± {s.ci95:.3f}" for s in found)
        threshold = f"{mine[0]['threshold']}" + (", best" if kind == "best" else "")
        lines.append(f"| {method} | {threshold} | {seen.sum()} of {len(mine)} | {cells} |")
    lines += [f"| {name} | | | {v} | {s} | {z} | |" for name, v, s, z in PUBLISHED]
    return "\n".join(lines) + "\n"


def draw(
    path: Path,
    stack: torch.Tensor,
    made: dict[str, Array],
    truth: NDArray[np.bool_],
    rows: list[dict[str, object]],
) -> None:
    """Draw sections through one bead, the true outline over each, and the found one."""
    best = {row["method"]: float(str(row["threshold"])) for row in rows if row["kind"] == "best"}
    centre = [round(c) for c in np.argwhere(truth).mean(axis=0)]
    recorded = np.repeat(stack.cpu().numpy(), len(truth) // len(stack), axis=0)
    panels = {"recording": recorded, **made, "truth": truth.astype(np.float32)}
    figure, axes = plt.subplots(
        2,
        len(panels),
        figsize=(2.1 * len(panels), 7.2),
        height_ratios=(SIZE_UM[0] / SIZE_UM[1], 1),
        squeeze=False,
    )
    for column, (name, volume) in zip(axes.T, panels.items(), strict=True):
        for axis, section, outline in (
            (column[0], volume[:, centre[1]], truth[:, centre[1]]),
            (column[1], volume[centre[0]], truth[centre[0]]),
        ):
            axis.imshow(section, cmap="magma", vmin=0, vmax=volume.max())
            axis.contour(outline, [0.5], colors="white", linewidths=0.8)
            if name in best:
                axis.contour(section, [best[name]], colors="cyan", linewidths=0.8)
            axis.set_axis_off()
        column[0].set_title(name)
    figure.suptitle("x-z above, x-y below; white: the bead, cyan: found, at the best threshold")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def study(config: Config, options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    by = recording_config(config, options)
    voxel_um = config.params.res_lateral
    model = load_model(options.checkpoint, config.params).to(device)
    beads = [bead(config.params, options.seed + number) for number in range(options.beads)]
    stacks = [record(by, z, options.seed + n, device) for n, (_, z) in enumerate(beads)]
    if options.finetune_steps:
        model = finetuned(
            model,
            config,
            stacks,
            steps=options.finetune_steps,
            seed=options.seed,
            as_recorded=options.as_recorded,
        )
    truths, made = [truth for truth, _ in beads], []
    started = time.perf_counter()
    for number, stack in enumerate(stacks):
        made.append(results(config, model, stack, as_recorded=options.as_recorded))
        print(f"bead {number + 1}: {time.perf_counter() - started:.0f} s", flush=True)
    rows = rows_of(made, truths, voxel_um)
    write_tables(options.out, "beads", rows, table(rows))
    draw(options.out / "beads.png", stacks[0], made[0], truths[0], rows)


def main() -> None:
    parser = study_parser(__doc__)
    parser.add_argument("--beads", type=int, default=30)
    options = parser.parse_args()
    study(load_config(options.config), options)


if __name__ == "__main__":
    main()
