import csv
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
from matplotlib import image
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from scopekit.errors import UserError
from scopekit.images.files import write_volume
from serenet.comparison import files as comparison
from serenet.comparison.files import COLUMNS, as_text, compare_files
from serenet.comparison.picture import save_comparison
from serenet.views.files import require_tiff

VOXEL_UM = (0.2, 0.12, 0.12)


def test_results_of_one_name_are_all_drawn_with_a_voxel_size_from_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[str], tuple[float, ...]]] = []
    monkeypatch.setattr(
        comparison,
        "save_comparison",
        lambda _, __, voxel_um, *, titles, **___: drawn.append((titles, voxel_um)),
    )
    rng = np.random.default_rng(0)
    volume = rng.random((9, 20, 20), dtype=np.float32)
    tifffile.imwrite(tmp_path / "truth.tif", volume)  # no voxel size
    results = [tmp_path / folder / "cell_serenet.tif" for folder in ("plain", "refined")]
    for factor, path in enumerate(results, start=2):
        noisy = volume * factor + 0.1 * factor * rng.random(volume.shape, dtype=np.float32)
        write_volume(path, noisy, VOXEL_UM, overwrite=False)
    rows = compare_files(tmp_path / "truth.tif", results, tmp_path / "out", overwrite=False)
    assert [row["file"] for row in rows] == [str(path) for path in results]
    assert all(0.9 < row["correlation"] < 1 for row in rows)
    ((titles, voxel_um),) = drawn
    assert titles == ["truth", *(str(path.with_suffix("")) for path in results)]
    assert voxel_um == pytest.approx(VOXEL_UM)


def points(seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    volume = np.zeros((40, 72, 80), np.float32)
    volume[tuple(rng.integers((4, 4, 4), (36, 68, 76), (250, 3)).T)] = rng.uniform(100, 400, 250)
    return volume


def test_resolution_is_told_of_the_truth_and_of_every_result(tmp_path: Path) -> None:
    volume = points()
    noise = np.random.default_rng(1).normal(0, 0.3, volume.shape).astype(np.float32)
    sigmas = {"truth": (0.8, 1.0, 1.0), "sharp": (1.2, 1.5, 1.5), "blurred": (2.2, 2.6, 2.6)}
    files = {name: tmp_path / f"{name}.tif" for name in sigmas}
    for name, sigma in sigmas.items():
        write_volume(files[name], gaussian_filter(volume, sigma) + noise, VOXEL_UM, overwrite=False)
    truth, *results = files.values()
    rows = compare_files(truth, results, tmp_path / "out", overwrite=False)
    assert all(tuple(row) == COLUMNS for row in rows)
    sharp, blurred = rows
    for axis in ("lateral_um", "axial_um"):
        assert sharp[f"truth_{axis}"] == blurred[f"truth_{axis}"]
        assert sharp[f"truth_{axis}"] < sharp[axis] < blurred[axis]
    assert 0.24 < float(sharp["lateral_um"]) < 1
    assert 0.4 < float(sharp["axial_um"]) < 2

    with (tmp_path / "out" / "comparison.csv").open(newline="") as handle:
        saved = list(csv.DictReader(handle))
    assert [float(row["axial_um"]) for row in saved] == [row["axial_um"] for row in rows]
    lines = as_text(rows)
    assert [line[0] for line in lines] == ["truth", *(str(path) for path in results)]
    assert lines[0][1:4] == ["-", "-", "-"]
    assert lines[0][4] == f"{sharp['truth_lateral_um']:.3f}"
    assert lines[1][1] == f"{sharp['correlation']:.4f}"
    assert lines[2][5] == f"{blurred['axial_um']:.3f}"


def test_without_a_voxel_size_there_is_no_resolution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = tmp_path / "truth.tif"
    tifffile.imwrite(truth, gaussian_filter(points(), 1))
    (row,) = compare_files(truth, [truth], tmp_path / "out", overwrite=False)
    assert all(math.isnan(float(row[name])) for name in COLUMNS[4:])
    assert "no file tells the voxel size" in "".join(capsys.readouterr())


def test_the_figure_shows_volumes_on_their_own_scale_and_what_differs(
    tmp_path: Path, figures: list[Figure]
) -> None:
    truth = gaussian_filter(points(), 1)
    volumes = [truth, 7 * truth + 100, np.zeros_like(truth)]
    path = tmp_path / "figure.png"

    def draw() -> None:
        save_comparison(
            path,
            volumes,
            VOXEL_UM,
            titles=["truth", "same, brighter", "flat"],
            captions=["a", "b\nc", "d"],
            overwrite=False,
        )

    draw()
    picture = image.imread(path)[..., :3]
    # Below, the brighter copy differs nowhere, the flat volume only by what is missing: blue.
    height, width = picture.shape[:2]
    below = picture[height // 2 :, : int(0.9 * width)]
    redder = below[..., 0] - below[..., 2]
    third = width // 3
    assert np.abs(redder[:, third : third + 20]).max() < 0.05
    assert redder.min() < -0.5
    assert redder.max() < 0.05
    above = [axes for axes in figures[0].axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in above] == ["truth", "same, brighter", "flat"]
    assert [axes.texts[0].get_text() for axes in above] == ["a", "b\nc", "d"]
    with pytest.raises(UserError, match="`overwrite=True`"):
        draw()


@pytest.mark.parametrize("name", ["views.png", "views", "views.h5"])
def test_views_are_written_as_tiff_only(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}: .*\.tif"):
        require_tiff(Path(name))
