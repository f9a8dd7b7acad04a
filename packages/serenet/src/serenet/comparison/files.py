"""``serenet compare``: results against a truth, in numbers and in a picture."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scopekit.errors import UserError
from scopekit.images.files import open_stack, stack_stem
from scopekit.metrics import correlation, match_brightness, psnr, ssim
from scopekit.outputs import require_new, require_writable, whole_file
from scopekit.progress import say
from serenet.comparison.picture import save_comparison
from serenet.comparison.resolution import volume_resolution

COLUMNS = (
    "file",
    "correlation",
    "psnr_db",
    "ssim",
    "lateral_um",
    "axial_um",
    "truth_lateral_um",
    "truth_axial_um",
)


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
    fitted to the truth by least squares, since reconstructions have arbitrary units. Resolution is
    found by decorrelation analysis in the planes and sections where the truth has most contrast;
    it is NaN where the analysis gives none, and where no file tells the voxel size.

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
    require_writable(out)
    for path in (table, figure):
        require_new(path, overwrite=overwrite)
    reference, voxel_um = _read(truth)
    shape = reference.shape
    if blur is not None:
        if not all(0 <= n < math.inf for n in blur):
            raise UserError(f"--blur {' '.join(f'{n:g}' for n in blur)}: give numbers from 0")
        reference = gaussian_filter(reference, blur)
    window = _window(reference.shape, border)
    reference = reference[window]
    volumes = [reference]
    rows: list[dict[str, str | float]] = []
    for path in results:
        volume, own_voxel_um = _read(path)
        voxel_um = voxel_um or own_voxel_um
        if volume.shape != shape:
            raise UserError(f"{path}: shape {volume.shape}; the truth {truth} has {shape}")
        volume = volume[window]
        fitted = match_brightness(reference, volume)
        rows.append(
            {
                "file": str(path),
                "correlation": correlation(reference, volume),
                "psnr_db": psnr(reference, fitted),
                "ssim": ssim(reference, fitted),
            }
        )
        volumes.append(volume)
    if voxel_um is None:
        say("no file tells the voxel size: resolution is left out")
    resolutions = [_resolution(volume, voxel_um, reference) for volume in volumes]
    captions = [_microns(*resolutions[0])]
    for row, found in zip(rows, resolutions[1:], strict=True):
        row.update(zip(COLUMNS[4:], (*found, *resolutions[0]), strict=True))
        captions.append(f"correlation {row['correlation']:.3f}\n{_microns(*found)}")
    with whole_file(table, overwrite=overwrite) as partial:
        with partial.open("w", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        save_comparison(
            figure,
            volumes,
            voxel_um or (1.0, 1.0, 1.0),
            titles=["truth", *_titles(results)],
            captions=captions,
            overwrite=overwrite,
        )
    return rows


def as_text(rows: Sequence[Mapping[str, str | float]]) -> list[list[str]]:
    """Return the table to print: the truth, then every result; '-' stands for NaN.

    Columns are the file, correlation, PSNR, SSIM, lateral and axial resolution.
    """
    digits = (4, 2, 4, 3, 3)
    truth = [math.nan, math.nan, math.nan, *(rows[0][name] for name in COLUMNS[6:])]
    lines = [("truth", truth)]
    lines += [(str(row["file"]), [row[name] for name in COLUMNS[1:6]]) for row in rows]
    return [
        [name, *(_number(value, n) for value, n in zip(values, digits, strict=True))]
        for name, values in lines
    ]


def _number(value: str | float, digits: int) -> str:
    return "-" if math.isnan(float(value)) else f"{value:.{digits}f}"


def _resolution(
    volume: NDArray[np.float32],
    voxel_um: tuple[float, float, float] | None,
    chosen: NDArray[np.float32],
) -> tuple[float, float]:
    if voxel_um is None:
        return math.nan, math.nan
    return volume_resolution(volume, voxel_um, chosen)


def _microns(lateral_um: float, axial_um: float) -> str:
    lateral, axial = (
        "not found" if math.isnan(n) else f"{n:.2f} µm" for n in (lateral_um, axial_um)
    )
    return f"resolution {lateral}, axial {axial}"


def _titles(results: Sequence[Path]) -> list[str]:
    """Return the names of the results, with their folders where names repeat."""
    stems = [stack_stem(path) for path in results]
    return [
        stem if stems.count(stem) == 1 else str(path.with_name(stem))
        for path, stem in zip(results, stems, strict=True)
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
