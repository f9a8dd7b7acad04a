from pathlib import Path

import numpy as np
import pytest
import tifffile

from scopekit.errors import UserError
from scopekit.volumes import write_volume
from serenet import comparison
from serenet.comparison import compare_files
from serenet.inputs import require_tiff

VOXEL_UM = (0.2, 0.12, 0.12)


def test_results_of_one_name_are_all_drawn_with_a_voxel_size_from_any_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[list[str], tuple[float, ...]]] = []
    monkeypatch.setattr(
        comparison,
        "save_preview",
        lambda _, volumes, voxel_um, **__: drawn.append((list(volumes), voxel_um)),
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


@pytest.mark.parametrize("name", ["views.png", "views", "views.h5"])
def test_views_are_written_as_tiff_only(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}: .*\.tif"):
        require_tiff(Path(name))
