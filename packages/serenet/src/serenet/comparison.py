"""``serenet compare``: results against a truth, in numbers and in a picture."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scopekit.errors import UserError
from scopekit.metrics import correlation, match_brightness, psnr, ssim
from scopekit.outputs import make_folder, require_new, whole_file
from scopekit.preview import save_preview
from scopekit.volumes import open_stack

COLUMNS = ("file", "correlation", "psnr_db", "ssim")


def compare_files(
    truth: Path,
    results: Sequence[Path],
    out: Path,
    *,
    border: tuple[int, int] = (0, 0),
    blur: tuple[float, float, float] | None = None,
    overwrite: bool,
) -> list[dict[str, str | float]]:
    """Measure results against a truth; write ``comparison.csv`` and ``comparison.png``.

    Correlation is Pearson's. PSNR and SSIM are taken after the result's gain and offset are
    fitted to the truth by least squares, since reconstructions have arbitrary units.

    Parameters
    ----------
    truth, results
        Volumes (Z, Y, X) of one shape.
    out
        Folder for the table and the figure.
    border
        Planes and pixels left out on every side, (axial, lateral).
    blur
        Gaussian sigma (z, y, x) in voxels applied to the truth first.
    overwrite
        Whether existing files may be replaced.

    Returns
    -------
    list of dict
        One row a result, keys `COLUMNS`.
    """
    table, figure = out / "comparison.csv", out / "comparison.png"
    make_folder(out)
    for path in (table, figure):
        require_new(path, overwrite=overwrite)
    reference, voxel_um = _read(truth)
    titles = _titles(results)
    if blur is not None:
        if not all(0 <= n < math.inf for n in blur):
            raise UserError(f"--blur {' '.join(f'{n:g}' for n in blur)}: give numbers from 0")
        reference = gaussian_filter(reference, blur)
    window = _window(reference.shape, border)
    volumes = {truth.stem: reference[window]}
    rows: list[dict[str, str | float]] = []
    for path, title in zip(results, titles, strict=True):
        volume, own_voxel_um = _read(path)
        voxel_um = voxel_um or own_voxel_um
        if volume.shape != reference.shape:
            raise UserError(
                f"{path}: shape {volume.shape}; the truth {truth} has {reference.shape}"
            )
        inner = volume[window]
        fitted = match_brightness(reference[window], inner)
        rows.append(
            {
                "file": str(path),
                "correlation": correlation(reference[window], inner),
                "psnr_db": psnr(reference[window], fitted),
                "ssim": ssim(reference[window], fitted),
            }
        )
        volumes[title] = inner
    captions = ["truth"] + [f"correlation {row['correlation']:.3f}" for row in rows]
    with whole_file(table, overwrite=overwrite) as partial:
        with partial.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        save_preview(
            figure, volumes, voxel_um or (1.0, 1.0, 1.0), overwrite=overwrite, captions=captions
        )
    return rows


def _titles(results: Sequence[Path]) -> list[str]:
    """Return the names of the results, with their folders where names repeat."""
    stems = [path.stem for path in results]
    return [
        path.stem if stems.count(path.stem) == 1 else str(path.with_suffix("")) for path in results
    ]


def _read(path: Path) -> tuple[NDArray[np.float32], tuple[float, float, float] | None]:
    stack = open_stack(path)
    if len(stack.shape) != 3:
        raise UserError(f"{path}: shape {stack.shape}; expected one volume (Z, Y, X)")
    return stack.read(), stack.voxel_um


def _window(shape: tuple[int, ...], border: tuple[int, int]) -> tuple[slice, ...]:
    cuts = (border[0], border[1], border[1])
    if min(border) < 0 or any(n <= 2 * cut for n, cut in zip(shape, cuts, strict=True)):
        raise UserError(
            f"--border {border[0]} {border[1]} does not fit {shape}; give smaller numbers, from 0"
        )
    return tuple(slice(cut, n - cut) for n, cut in zip(shape, cuts, strict=True))
