"""Objects of a volume on disk, slab by slab."""

import csv
import math
from dataclasses import asdict, astuple

import numpy as np
import pytest
from scipy.ndimage import label

from scopekit.images.plane_file import PlaneFile
from tenet.objects import labelling
from tenet.objects.labelling import label_on_disk, plane_slabs
from tenet.objects.measurements import measure_objects
from tenet.objects.table import COLUMNS, measured_objects, write_table

VOXEL_UM = (0.5, 0.2, 0.2)


@pytest.fixture
def labelled(tmp_path, monkeypatch):
    """Return ``labelled(structure, threshold, slab_voxels, ...)``: mask and labels."""

    def call(structure, threshold, slab_voxels, *, in_place=False, layer=1):
        monkeypatch.setattr(labelling, "_SLAB_VOXELS", slab_voxels)
        shape, steps = structure.shape, []
        mask = PlaneFile.create(tmp_path / "mask.tif", shape, np.uint8, VOXEL_UM)
        numbers = PlaneFile.create_raw(tmp_path / "numbers.raw", shape, np.int32)

        def final(n_objects):
            # As OME-Zarr has it, or as TIFF.
            return numbers if in_place else PlaneFile.create_raw(tmp_path / "f", shape, np.uint16)

        found = label_on_disk(
            structure,
            threshold,
            numbers,
            final,
            lambda: steps.append(None),
            mask=mask,
            layer=layer,
        )
        assert len(steps) == 2 * len(plane_slabs(shape, layer))
        return mask, found

    return call


def test_slabs_are_of_whole_layers():
    assert plane_slabs((20, 1000, 1000), 3) == [
        slice(0, 6),
        slice(6, 12),
        slice(12, 18),
        slice(18, 20),
    ]
    assert plane_slabs((20, 5000, 5000), 16) == [slice(0, 16), slice(16, 20)]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
@pytest.mark.parametrize("slab_voxels", [1, 300, 10**6])
@pytest.mark.parametrize(("in_place", "layer"), [(False, 1), (True, 4)])
def test_slabs_give_the_objects_of_the_whole(labelled, share, slab_voxels, in_place, layer):
    structure = np.random.default_rng(0).random((13, 11, 9), dtype=np.float32)
    mask, found = labelled(structure, 1 - share, slab_voxels, in_place=in_place, layer=layer)
    inside = structure >= 1 - share
    expected, number = label(inside, np.ones((3, 3, 3)))
    labels = found.volume[:, :, :]
    assert len(found.boxes) == number == labels.max()
    assert len(np.unique(np.stack([labels, expected]).reshape(2, -1), axis=1).T) == number + 1
    np.testing.assert_array_equal(mask[:, :, :], 255 * inside)
    for index, box in enumerate(found.boxes, start=1):
        assert (labels[box] == index).sum() == (labels == index).sum()


def test_an_empty_volume_has_no_objects(labelled):
    _, found = labelled(np.zeros((3, 4, 5), np.float32), 0.5, 20)
    assert found.boxes == []
    assert found.volume[:, :, :].max() == 0


def three_objects():
    """One object within, between two that touch the border; two go over several planes."""
    structure = np.zeros((20, 24, 22), np.float32)
    structure[:, 2:5, 2:5] = 1
    structure[4:12, 10:18, 9:17] = 1
    structure[19, 20:, 20:] = 1
    return structure


def test_the_table_tells_what_the_whole_volume_would(labelled, tmp_path):
    structure = three_objects()
    generator = np.random.default_rng(0)
    brightness = generator.random(structure.shape, dtype=np.float32)
    recorded = generator.random((5, 24, 22), dtype=np.float32)
    _, found = labelled(structure, 0.5, 3000)
    rows = list(measured_objects(found, brightness, recorded, 4, VOXEL_UM, 1e9))
    labels = found.volume[:, :, :]
    expected = measure_objects(labels, VOXEL_UM, brightness)
    for row, whole in zip(rows, expected, strict=True):
        for (name, one), other in zip(asdict(row.measured).items(), astuple(whole), strict=True):
            assert one == pytest.approx(other, rel=1e-9), name
    repeated = recorded.repeat(4, axis=0)
    for row in rows:
        inside = repeated[labels == row.measured.label]
        assert row.mean_recorded == pytest.approx(inside.mean(), rel=1e-5)
    assert [row.measured.touches_border for row in rows] == [True, False, True]

    unmeasured = write_table(tmp_path / "objects.csv", iter(rows), lambda: None)
    with (tmp_path / "objects.csv").open() as handle:
        table = list(csv.DictReader(handle))
    assert unmeasured == 0
    assert tuple(table[0]) == COLUMNS
    assert float(table[1]["volume_um3"]) == pytest.approx(512 * math.prod(VOXEL_UM))


def test_an_object_too_large_for_the_memory_has_no_surface(labelled, tmp_path):
    structure = three_objects()
    brightness = np.random.default_rng(0).random(structure.shape, dtype=np.float32)
    recorded = brightness[::4]
    _, found = labelled(structure, 0.5, 300)
    rows = list(measured_objects(found, brightness, recorded, 4, VOXEL_UM, 40 * 300))
    whole = measure_objects(found.volume[:, :, :], VOXEL_UM, brightness)
    assert [math.isnan(row.measured.surface_um2) for row in rows] == [False, True, False]
    large, expected = rows[1].measured, whole[1]
    assert large.centroid_um == pytest.approx(expected.centroid_um)
    assert large.volume_um3 == pytest.approx(expected.volume_um3)
    assert large.mean_intensity == pytest.approx(expected.mean_intensity, rel=1e-5)
    assert write_table(tmp_path / "objects.csv", iter(rows), lambda: None) == 1
    assert ",,," in (tmp_path / "objects.csv").read_text().splitlines()[2]
