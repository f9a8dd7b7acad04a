"""Score networks for nnum13 beside deconvolution on unseen bubtub groups of all 15 kinds.

``datagen bubtub --microscope nnum13 --size 429 --seed S --out FOLDER`` makes the groups. Views get
500 photons in the brightest pixel and read noise 3; files go through the commands' own functions.
What is there already is not made again. Writes ``scores.csv`` and ``table.md``; deconvolution
takes minutes a group.

Example: python tools/studies/weights_scores.py bubtub --out scores --network published=serenet.pth
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from optics import add_camera_noise, presets
from scopekit.images.files import open_stack, write_volume
from scopekit.metrics import correlation
from serenet.deconvolution.files import DeconvolveOptions, deconvolve_files
from serenet.reconstruction.files import ReconstructOptions, reconstruct_files

MICROSCOPE = presets["nnum13"]
PHOTONS, READ_NOISE = 500.0, 3.0
INNER = (slice(20, -20), slice(50, -50), slice(50, -50))
REFINED = 25
Solve = Callable[[Path, Path], Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("groups", type=Path, help="folder of datagen bubtub")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--network", action="append", default=[], metavar="TITLE=CHECKPOINT")
    parser.add_argument("--refine", action="store_true", help="each network with --refine 25 too")
    parser.add_argument("--deconvolve", action="store_true", help="3 sweeps of 169 views too")
    arguments = parser.parse_args()
    methods: dict[str, Solve] = {}
    for pair in arguments.network:
        title, checkpoint = pair.split("=", 1)
        methods[title] = network(checkpoint, 0)
        if arguments.refine:
            methods[f"{title}, refined"] = network(checkpoint, REFINED)
    if arguments.deconvolve:
        methods["deconvolution"] = deconvolved
    rows = known_rows(arguments.out)
    for truth_file in sorted((arguments.groups / "GT_synthetic").glob("*.tif")):
        recorded = record(arguments.groups, arguments.out, truth_file)
        truth = None
        for title, solve in methods.items():
            if (truth_file.stem, title) in rows:
                continue
            if truth is None:
                truth = open_stack(truth_file).read()[INNER]
            started = time.process_time()
            result = solve(recorded, arguments.out / "result")
            seconds = time.process_time() - started
            found = correlation(truth, open_stack(result).read()[INNER])
            rows[truth_file.stem, title] = (found, seconds)
            print(f"{truth_file.stem}, {title}: {found:.3f}, {seconds:.0f} CPU s", flush=True)
            write_rows(arguments.out, rows)


def network(checkpoint: str, refine: int) -> Solve:
    def solve(views: Path, folder: Path) -> Path:
        options = ReconstructOptions(
            checkpoint=Path(checkpoint), out=folder, refine=refine, preview=False, overwrite=True
        )
        return reconstruct_files([views], options)[0]

    return solve


def deconvolved(views: Path, folder: Path) -> Path:
    options = DeconvolveOptions(
        microscope="nnum13", out=folder, iterations=3, preview=False, overwrite=True
    )
    return deconvolve_files([views], options)[0]


def record(groups: Path, out: Path, truth_file: Path) -> Path:
    """Return a group's views with noise, made if they are not there."""
    recorded = out / "recorded" / truth_file.name
    if not recorded.exists():
        (clean_file,) = (groups / "x3_synthetic").glob(f"{truth_file.stem}*.tif")
        clean = torch.from_numpy(open_stack(clean_file).read())
        seed = int("".join(filter(str.isdigit, truth_file.stem)))
        noisy = add_camera_noise(
            clean,
            photons=PHOTONS,
            read_noise=READ_NOISE,
            generator=torch.Generator().manual_seed(seed),
        )
        step_um = MICROSCOPE.view_pixel_um
        write_volume(recorded, noisy.numpy(), (1.0, step_um, step_um), overwrite=False)
    return recorded


def known_rows(out: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Return what an earlier run found, by group and method."""
    file = out / "scores.csv"
    if not file.exists():
        return {}
    with file.open(newline="", encoding="utf-8") as handle:
        return {
            (row["group"], row["method"]): (float(row["correlation"]), float(row["cpu_s"]))
            for row in csv.DictReader(handle)
        }


def write_rows(out: Path, rows: dict[tuple[str, str], tuple[float, float]]) -> None:
    """Write ``scores.csv`` and ``table.md``, a row for every group."""
    with (out / "scores.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["group", "method", "correlation", "cpu_s"])
        writer.writerows([*key, *values] for key, values in rows.items())
    groups, titles = (list(dict.fromkeys(column)) for column in zip(*rows, strict=True))
    lines = ["| group | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for group in sorted(groups):
        cells = [f"{rows[group, t][0]:.3f}" if (group, t) in rows else "" for t in titles]
        lines.append(f"| {group} | " + " | ".join(cells) + " |")
    for name, column, form in (("mean", 0, "{:.3f}"), ("CPU s", 1, "{:.0f}")):
        means = [
            np.mean([v[column] for (_, t), v in rows.items() if t == title]) for title in titles
        ]
        lines.append(f"| {name} | " + " | ".join(form.format(m) for m in means) + " |")
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
