r"""Compare TENET, RL-TV and interpolation on simulated thin lines at angles to the optical axis.

Lines of 3 x 3 x 20 to 39 voxels, two in a million voxels, are imaged by the microscope of the
configuration, with its noise. The score is the overlap (IoU) with the truth at the best of many
thresholds, one for all volumes of an angle. Writes ``lines.csv``, ``lines.md`` (the table) and
``lines.png``.

Example: python tools/studies/line_study.py tools/studies/two_photon_network.json weights.pt \
        --out studies
"""

import argparse
import math
import time
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
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

from datagen.labels.lines import line_set
from scopekit.memory import choose_device
from tenet.config.files import Config, load_config
from tenet.network.weights import load_model

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ANGLES = ("0", "random", "90")
LINES_PER_VOXEL = 2e-6  # 250 in 500^3, as published
THRESHOLDS = np.unique(np.round(np.r_[np.geomspace(1e-3, 0.1, 25), np.arange(0.1, 1, 0.02)], 4))
PUBLISHED = {"RL-TV": (0.180, 0.210, 0.479), "TENET": (0.151, 0.151, 0.489)}


def lines(
    angle: str, size: tuple[int, int, int], number: int, seed: int
) -> list[tuple[NDArray[np.bool_], Array]]:
    """Return structure and brightness of volumes of lines."""
    count = max(round(LINES_PER_VOXEL * math.prod(size)), 1)
    made = line_set(angle, count=count, size=size, number=number, seed=seed)
    volumes = []
    for index in range(number):
        x, z = zip(*made.planes(index), strict=True)
        volumes.append((np.stack(x) > 0.5, np.stack(z)))
    return volumes


def counts(
    volume: Array, truth: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return voxels at or above each threshold: those in the truth, and all; and the truth's."""
    bins = np.searchsorted(THRESHOLDS, volume.ravel(), side="right")
    every = np.bincount(bins, minlength=len(THRESHOLDS) + 1)
    inside = np.bincount(bins[truth.ravel()], minlength=len(THRESHOLDS) + 1)
    above = [found[::-1].cumsum()[::-1][1:] for found in (inside, every)]
    return above[0], above[1], int(truth.sum())


def overlap(
    volumes: list[Array], truths: list[NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the overlap at every threshold, and the volume found as a share of the true one.

    All volumes are counted together.
    """
    parts = [counts(volume, truth) for volume, truth in zip(volumes, truths, strict=True)]
    both = np.sum([part[0] for part in parts], axis=0)
    found = np.sum([part[1] for part in parts], axis=0)
    total = sum(part[2] for part in parts)
    return both / (found + total - both), found / total


def row_of(
    method: str, angle: str, made: list[Array], truths: list[NDArray[np.bool_]]
) -> dict[str, object]:
    """Return the scores of a method at an angle."""
    curve, share = overlap(made, truths)
    singles = [overlap([m], [t])[0].max() for m, t in zip(made, truths, strict=True)]
    return {
        "method": method,
        "angle": angle,
        "best_iou": round(float(curve.max()), 4),
        "best_threshold": float(THRESHOLDS[curve.argmax()]),
        "found_share_at_best": round(float(share[curve.argmax()]), 3),
        "iou_at_half": round(float(curve[np.abs(THRESHOLDS - 0.5).argmin()]), 4),
        "least_of_volumes": round(float(min(singles)), 4),
        "most_of_volumes": round(float(max(singles)), 4),
        "volumes": len(truths),
    }


def table(rows: list[dict[str, object]]) -> str:
    """Return the table (Markdown)."""
    lines = [
        "| method | 0°, best IoU | random | 90° | at threshold 0.5: 0° | random | 90° |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in METHODS:
        mine = {row["angle"]: row for row in rows if row["method"] == method}
        best = [f"{mine[a]['best_iou']:.3f} ({mine[a]['best_threshold']:.2g})" for a in ANGLES]
        half = [f"{mine[a]['iou_at_half']:.3f}" for a in ANGLES]
        lines.append(f"| {method} (threshold) | {' | '.join(best + half)} |")
    for method, scores in PUBLISHED.items():
        cells = " | ".join(f"{score:.3f}" for score in scores)
        lines.append(f"| {method}, published | {cells} | | | |")
    return "\n".join(lines) + "\n"


def draw(
    path: Path, shown: dict[str, dict[str, Array]], rows: list[dict[str, object]], side: int
) -> None:
    """Draw x-z projections of a part of one volume of every angle."""
    names = list(next(iter(shown.values())))
    figure, axes = plt.subplots(
        len(shown), len(names), figsize=(2.6 * len(names), 2.7 * len(shown)), squeeze=False
    )
    for of_angle, (angle, volumes) in zip(axes, shown.items(), strict=True):
        for axis, (name, volume) in zip(of_angle, volumes.items(), strict=True):
            picture = volume[:, :side].max(axis=1)
            axis.imshow(picture, cmap="magma", vmin=0, vmax=picture.max())
            score = [r["best_iou"] for r in rows if (r["method"], r["angle"]) == (name, angle)]
            unit = "°" if angle.isdigit() else ""
            axis.set_title(f"{name}, IoU {score[0]:.2f}" if score else f"{angle}{unit}: {name}")
            axis.set_axis_off()
    figure.suptitle("x-z maximum projections through part of a volume")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def study(config: Config, options: argparse.Namespace) -> None:
    device = choose_device(options.device)
    by = recording_config(config, options)
    pretrained = load_model(options.checkpoint, config.params).to(device)
    size = tuple(options.size)
    rows, shown = [], {}
    started = time.perf_counter()
    for angle in ANGLES:
        volumes = lines(angle, size, options.volumes, options.seed)
        truths = [truth for truth, _ in volumes]
        stacks = [record(by, z, options.seed + n, device) for n, (_, z) in enumerate(volumes)]
        model = pretrained
        if options.finetune_steps:
            model = finetuned(
                model,
                config,
                stacks,
                steps=options.finetune_steps,
                seed=options.seed,
                as_recorded=options.as_recorded,
            )
        made = [results(config, model, s, as_recorded=options.as_recorded) for s in stacks]
        for method in METHODS:
            rows.append(row_of(method, angle, [m[method] for m in made], truths))
        recorded = np.repeat(stacks[0].cpu().numpy(), config.params.scale, axis=0)
        shown[angle] = {"recording": recorded, **made[0], "truth": truths[0].astype(np.float32)}
        print(f"{angle}: {time.perf_counter() - started:.0f} s", flush=True)
    write_tables(options.out, "lines", rows, table(rows))
    draw(options.out / "lines.png", shown, rows, min(80, size[1]))


def main() -> None:
    parser = study_parser(__doc__)
    parser.add_argument("--size", type=int, nargs=3, default=(240, 192, 192), metavar="N")
    parser.add_argument("--volumes", type=int, default=2, help="of every angle")
    options = parser.parse_args()
    study(load_config(options.config), options)


if __name__ == "__main__":
    main()
