"""Train every method on the same simulated scenes and compare them on bubtub groups.

The methods learn as the shipped presets ``small_...`` say, until they hardly improve any more; the
groups are of another kind than the scenes. VCD-Net is left out: it would take hours. Writes
``table.md``, ``table.csv``, ``curves.png`` and ``figure.png``. What is there already is not made
again, so an interrupted run goes on. An hour on one core.

Example: python tools/studies/compare_methods.py --out comparison
"""

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
import torch.nn.functional as F
import yaml
from matplotlib import pyplot as plt
from matplotlib.image import imread, imsave
from skimage.transform import rescale

from optics import add_camera_noise, open_psf, phase_space_psf, presets
from scopekit.images.files import open_stack, write_volume
from scopekit.preview import save_preview
from scopekit.settings import read_yaml
from serenet import decompose, load_checkpoint, subtract_background
from serenet.comparison.files import compare_files
from serenet.deconvolution.files import DeconvolveOptions, deconvolve_files
from serenet.networks.vsnet import VsNet
from serenet.reconstruction.files import ReconstructOptions, reconstruct_files
from serenet.simulation.training_scenes import write_scenes
from serenet.training.settings import shipped_settings
from serenet.views.files import open_views, read_views
from serenet.virtual_scanning.scan import virtual_scan

PRESET = presets["nnum13"]
DEPTHS, PSF_SIZE, SIDE = 21, 99, 143
VIEW_UM = (1.0, PRESET.view_pixel_um, PRESET.view_pixel_um)
TEST_GROUPS = range(16, 31)
PHOTONS, READ_NOISE = 500.0, 3.0
SHOWN = 17  # a group of tubes
PANELS_IN_A_ROW = 5
BORDER = (2, 10)  # planes and pixels at the border, where views are cut off
# By name: the preset, and what differs from it.
TRAININGS: dict[str, tuple[str, dict[str, Any]]] = {
    "serenet": ("small_renet", {"method": "serenet"}),
    "serenet, light fields alone": ("small_renet", {"method": "serenet"}),
    "fserenet": ("small_renet", {"method": "fserenet", "epochs": 12}),
    "hylfmnet": ("small_hylfmnet", {}),
    "rlnet": ("small_rlnet", {}),
    "vsnet": ("small_vsnet", {}),
}
WITHOUT_VOLUMES = ("serenet, light fields alone", "vsnet")
METRICS = ("correlation", "psnr_db", "ssim", "lateral_um", "axial_um")


@dataclass
class Method:
    """A row of the table: how a volume is made of views on disk, and how long training took."""

    title: str
    solve: Callable[[Path, Path], Path]
    training_s: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--checkpoint",
        action="append",
        default=[],
        metavar="TITLE=FILE",
        help="further networks, not trained here",
    )
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    make_data(out)
    for name in TRAININGS:
        train(out, name)
    draw_curves(out)
    methods = the_methods(out, dict(pair.split("=", 1) for pair in arguments.checkpoint))
    rows = [measure(out, method) for method in methods]
    write_table(out, rows)
    draw(out, methods)


def make_data(out: Path) -> None:
    psf = out / "psf.h5"
    if not psf.exists():
        run("serenet", "psf", "nnum13", "--views", "all", "--depths", DEPTHS, "--size", PSF_SIZE,
            "--out", psf)  # fmt: skip
    microscope = PRESET.with_middle_depths(DEPTHS).with_all_views()
    psf_of_all = phase_space_psf(microscope, size=PSF_SIZE)
    for folder, seeds in (("training", range(1, 49)), ("validation", range(10_001, 10_004))):
        write_scenes(out / folder, "mixed", seeds, microscope, psf_of_all, keep=True)
    if not (out / "test" / "GT_synthetic" / f"group{TEST_GROUPS[-1]:03d}.tif").exists():
        run("datagen", "bubtub", "--psf", psf, "--size", SIDE, "--first", TEST_GROUPS[0],
            "--groups", len(TEST_GROUPS), "--out", out / "test")  # fmt: skip
    for path in sorted((out / "test" / "x3_synthetic").glob("*.tif")):
        recorded = out / "recorded" / path.name
        if not recorded.exists():
            generator = torch.Generator().manual_seed(int("".join(filter(str.isdigit, path.stem))))
            clean = torch.from_numpy(tifffile.imread(path).astype(np.float32))
            noisy = add_camera_noise(
                clean, photons=PHOTONS, read_noise=READ_NOISE, generator=generator
            )
            write_volume(recorded, noisy.numpy(), VIEW_UM, overwrite=False)


def run(*command: object) -> None:
    subprocess.run([sys.executable, "-m", *map(str, command)], check=True)


def folder_name(name: str) -> str:
    return name.replace(" ", "_").replace(",", "")


def train(out: Path, name: str) -> None:
    preset, changes = TRAININGS[name]
    content = read_yaml(shipped_settings()[preset]) | changes
    for part in ("data", "validation"):
        folder = out / ("training" if part == "data" else part)
        content[part] = {"views": str(folder / "views")}
        # Whoever learns without volumes is judged by them all the same.
        if part == "validation" or name not in WITHOUT_VOLUMES:
            content[part]["volumes"] = str(folder / "volumes")
    if content["method"] == "vsnet":
        del content["validation"]["volumes"]
    if content["method"] == "fserenet":
        content["start_from"] = str(checkpoint(out, "serenet"))
    run_folder = out / "runs" / folder_name(name)
    if (run_folder / "checkpoints" / f"epoch-{content['epochs']:04d}.pt").exists():
        return
    path = run_folder.with_suffix(".yaml")
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    run("serenet", "train", path, "--out", run_folder, "--resume")


def checkpoint(out: Path, name: str) -> Path:
    return out / "runs" / folder_name(name) / "checkpoints" / "last.pt"


def training_time(out: Path, method: str) -> float:
    return sum(float(row["seconds"]) for row in history(out, method))


def history(out: Path, name: str) -> list[dict[str, str]]:
    with (out / "runs" / folder_name(name) / "log.csv").open() as handle:
        return list(csv.DictReader(handle))


def draw_curves(out: Path) -> None:
    """Draw the score of the validation scenes over the epochs, to see who still improves."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name in TRAININGS:
        rows = [row for row in history(out, name) if row.get("correlation")]
        if rows:
            share = [int(row["epoch"]) / int(rows[-1]["epoch"]) for row in rows]
            axes.plot(share, [float(row["correlation"]) for row in rows], "o-", label=name)
    axes.set_xlabel("share of the training")
    axes.set_ylabel("correlation, validation scenes")
    axes.legend()
    figure.savefig(out / "curves.png", dpi=80)
    plt.close(figure)


def the_methods(out: Path, others: dict[str, str]) -> list[Method]:
    psf = out / "psf.h5"

    def network(file: Path | str) -> Callable[[Path, Path], Path]:
        def solve(views: Path, folder: Path) -> Path:
            options = ReconstructOptions(
                checkpoint=Path(file), out=folder, psf=psf, preview=False, overwrite=True
            )
            return reconstruct_files([views], options)[0]

        return solve

    def deconvolved(views: Path, folder: Path) -> Path:
        options = DeconvolveOptions(out=folder, psf=psf, preview=False, overwrite=True)
        return deconvolve_files([views], options)[0]

    methods = [
        Method("refocused mean", lambda views, folder: refocus(psf, views, folder)),
        Method("deconvolved, 3 sweeps of 169 views", deconvolved),
    ]
    for name in TRAININGS:
        if name != "vsnet":
            seconds = training_time(out, name)
            if name == "fserenet":
                seconds += training_time(out, "serenet")
            methods.append(Method(name, network(checkpoint(out, name)), seconds))
    methods += [Method(title, network(file)) for title, file in others.items()]
    for title, scan in (("bicubic", None), ("vsnet", checkpoint(out, "vsnet"))):
        methods.append(
            Method(
                f"serenet of an unscanned light field, {title}",
                unscanned(out, psf, scan),
                training_time(out, "serenet") + (training_time(out, "vsnet") if scan else 0),
            )
        )
    return methods


def refocus(psf: Path, views: Path, folder: Path) -> Path:
    microscope = PRESET.with_middle_depths(DEPTHS)
    light_field = read_views(*open_views(views, microscope))
    shift = open_psf(psf).read_shift(list(microscope.views)) / microscope.lateral_scale
    mean = decompose(light_field, shift).mean(dim=0)
    volume = F.interpolate(mean[None], size=(SIDE, SIDE), mode="bilinear")[0].numpy()
    result = folder / f"{views.stem}_refocused.tif"
    voxel_um = microscope.voxel_um
    write_volume(result, volume, voxel_um, overwrite=True)
    return result


def unscanned(out: Path, psf: Path, scan: Path | None) -> Callable[[Path, Path], Path]:
    """Reconstruct from every third pixel of the views, enlarged by interpolation or by vsnet."""

    def solve(views: Path, folder: Path) -> Path:
        scanned = subtract_background(torch.from_numpy(open_stack(views).read()))
        coarse = scanned[:, 1::3, 1::3].contiguous()
        if scan is None:
            fine = F.interpolate(coarse[None], scale_factor=3, mode="bicubic")[0].clamp(min=0)
        else:
            model = load_checkpoint(scan)
            assert isinstance(model, VsNet)
            fine = virtual_scan(coarse, model)
        enlarged = folder / "enlarged" / views.name
        write_volume(enlarged, fine.numpy(), VIEW_UM, overwrite=True)
        options = ReconstructOptions(
            checkpoint=checkpoint(out, "serenet"),
            out=folder,
            psf=psf,
            background=0,
            preview=False,
            overwrite=True,
        )
        return reconstruct_files([enlarged], options)[0]

    return solve


def measure(out: Path, method: Method) -> dict[str, Any]:
    folder = folder_of(out, method)
    scores: dict[str, list[float]] = {name: [] for name in METRICS}
    seconds = []
    for group in TEST_GROUPS:
        start = time.perf_counter()
        result = method.solve(recorded_views(out, group), folder)
        seconds.append(time.perf_counter() - start)
        compared = folder / f"compared{group:03d}"
        (row,) = compare_files(truth(out, group), [result], compared, border=BORDER, overwrite=True)
        for name in METRICS:
            scores[name].append(float(row[name]))
        result.replace(folder / f"group{group:03d}.tif")
    return {
        "method": method.title,
        **{name: float(np.nanmean(values)) for name, values in scores.items()},
        "lowest": min(scores["correlation"]),
        "highest": max(scores["correlation"]),
        "training_s": method.training_s,
        "seconds": float(np.median(seconds)),
    }


def folder_of(out: Path, method: Method) -> Path:
    return out / "results" / folder_name(method.title)


def recorded_views(out: Path, group: int) -> Path:
    return next((out / "recorded").glob(f"*{group:03d}*.tif"))


def truth(out: Path, group: int) -> Path:
    return next((out / "test" / "GT_synthetic").glob(f"*{group:03d}*.tif"))


def write_table(out: Path, rows: list[dict[str, Any]]) -> None:
    with (out / "table.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    head = (
        "method", "correlation (lowest - highest)", "PSNR, dB", "SSIM",
        "resolution xy, z, um", "training, min", "a volume, s",
    )  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        trained = "-" if row["training_s"] is None else f"{row['training_s'] / 60:.0f}"
        lines.append(
            f"| {row['method']} | {row['correlation']:.3f} "
            f"({row['lowest']:.2f} - {row['highest']:.2f}) | {row['psnr_db']:.1f} | "
            f"{row['ssim']:.2f} | {row['lateral_um']:.2f}, {row['axial_um']:.2f} | {trained} | "
            f"{row['seconds']:.1f} |"
        )
    (out / "table.md").write_text("\n".join(lines) + "\n")
    print((out / "table.md").read_text())


def draw(out: Path, methods: list[Method]) -> None:
    reference = open_stack(truth(out, SHOWN))
    volumes = {"truth": reference.read()}
    for method in methods:
        volumes[method.title] = open_stack(folder_of(out, method) / f"group{SHOWN:03d}.tif").read()
    voxel_um = reference.voxel_um or (1.0, 1.0, 1.0)
    rows = []
    titles = list(volumes)
    for first in range(0, len(titles), PANELS_IN_A_ROW):
        row = out / f"row{first}.png"
        part = {title: volumes[title] for title in titles[first : first + PANELS_IN_A_ROW]}
        save_preview(row, part, voxel_um, overwrite=True)
        rows.append(imread(row))
        row.unlink()
    widest = max(row.shape[1] for row in rows)
    # White, so that nobody takes an empty place for a dark volume.
    padded = [
        np.pad(row, ((0, 0), (0, widest - row.shape[1]), (0, 0)), constant_values=1) for row in rows
    ]
    imsave(out / "figure.png", rescale(np.vstack(padded)[..., :3], 0.4, channel_axis=2))


if __name__ == "__main__":
    main()
