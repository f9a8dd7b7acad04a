"""``serenet compare``: results against a truth, in numbers and in a picture."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection, open_stack, stack_stem
from scopekit.outputs import require_new, require_writable, whole_file
from scopekit.progress import say
from serenet.comparison.measures import Comparison, Reference
from serenet.comparison.picture import save_comparison

COLUMNS = ("file", *(field.name for field in fields(Comparison)))


def compare_files(
    truth: Path,
    results: Sequence[Path],
    out: Path,
    *,
    border: tuple[int, int] = (0, 0),
    blur: tuple[float, float, float] | None = None,
    selection: Selection = WHOLE_FILE,
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
    selection
        Which channel and position of every file that has several.
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
    whole, voxel_um = _read(truth, selection)
    volumes = []
    for path in results:
        volume, own_voxel_um = _read(path, selection)
        voxel_um = voxel_um or own_voxel_um
        if volume.shape != whole.shape:
            raise UserError(f"{path}: shape {volume.shape}; the truth {truth} has {whole.shape}")
        volumes.append(volume)
    reference = Reference.of(whole, voxel_um, border, blur)
    if voxel_um is None:
        say("no file tells the voxel size: resolution is left out")
    volumes = [volume[reference.window] for volume in volumes]
    rows: list[dict[str, str | float]] = []
    captions = [_microns(*reference.resolution)]
    for path, volume in zip(results, volumes, strict=True):
        found = reference.compare(volume)
        rows.append({"file": str(path), **asdict(found)})
        microns = _microns(found.lateral_um, found.axial_um)
        captions.append(f"correlation {found.correlation:.3f}\n{microns}")
    with whole_file(table, overwrite=overwrite) as partial:
        with partial.open("w", newline="", encoding="utf-8", errors="backslashreplace") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        save_comparison(
            figure,
            [reference.values, *volumes],
            voxel_um,
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


def _read(
    path: Path, selection: Selection
) -> tuple[NDArray[np.float32], tuple[float, float, float] | None]:
    stack = open_stack(path, replace(selection, where_several=True))
    if len(stack.shape) != 3:
        raise UserError(f"{path}: shape {stack.shape}; expected one volume (Z, Y, X)")
    if np.can_cast(stack.dtype, np.float32):
        return stack.read(), stack.voxel_um
    # An offset of 2^30 leaves float32 no digits; no measure here depends on it.
    planes = stack.stored(range(stack.shape[0]))
    values = np.stack([plane.astype(np.float64) for plane in planes])
    if not float(np.abs(values).max()) < np.finfo(np.float32).max:
        raise UserError(f"{path}: NaN or infinite values; replace them by numbers first")
    return (values - values.min()).astype(np.float32), stack.voxel_um
