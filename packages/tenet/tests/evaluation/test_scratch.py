"""Large volumes are measured some planes at a time, from files: nothing else is to be noticed."""

import csv
import math
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from scopekit.errors import UserError
from tenet import metrics
from tenet.evaluation import kinds, pictures, scratch
from tenet.evaluation.scores import Result
from tenet.evaluation.scratch import IN_MEMORY, Parts, Scratch, is_mapped
from tenet.objects import labelling

KINDS = {
    "beads": kinds.Beads(1.0),
    "microglia": kinds.Microglia(),
    "simulation": kinds.Simulation(),
}


@pytest.fixture
def cut(monkeypatch):
    """Map every volume, and look at two planes of a small one at a time."""
    monkeypatch.setattr(scratch, "_LEAST_BYTES", 1)
    for module in (metrics, labelling):
        monkeypatch.setattr(module, "_SLAB_VOXELS", 1000)


def values_of(path):
    with path.open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("kind", KINDS)
def test_cut_volumes_give_the_same_tables(tenet, work, request, kind):
    inputs = {"simulation": ["labels/0000_labelx.npy"]}.get(kind, ["stacks/s00.npy"])
    command = ("evaluate", kind, *inputs, "--config", "tuned.json", "--threshold", 0.6)
    assert tenet(*command, "--out", "whole").returncode == 0
    request.getfixturevalue("cut")
    done = tenet(*command, "--out", "cut")
    assert done.returncode == 0, done.stderr
    names = [path.name for path in sorted((work / "whole").iterdir())]
    assert sorted(path.name for path in (work / "cut").iterdir()) == names
    for name in (name for name in names if name.endswith(".csv")):
        whole, found = values_of(work / "whole" / name), values_of(work / "cut" / name)
        assert len(whole) == len(found) > 0
        for one, other in zip(whole, found, strict=True):
            for column, text in one.items():
                assert same(text, other[column]), (name, column, text, other[column])


def same(text, other):
    try:
        return float(other) == pytest.approx(float(text), rel=1e-4, nan_ok=True)
    except ValueError:
        return text == other


def made(shape, make, **options):
    """Return a result of volumes that ``make`` makes room for: one column through all planes."""
    depth, height, width = shape
    structure, truth, brightness = (make(shape, np.float32) for _ in range(3))
    image, again = (make((depth // 4, height, width), np.float32) for _ in range(2))
    for volume in (structure, truth, brightness, image, again):
        parts = Parts(volume)
        for z in range(len(volume)):
            plane = np.full((1, height, width), 0.01 * (z % 7), np.float32)
            plane[:, 20:40, 20:40] = 0.9
            parts[slice(z, z + 1),] = plane
    return Result(
        "cell", "tenet", image, structure, brightness, again, (0.2, 0.2, 0.2), truth, brightness
    )


def traced(work):
    """Return what work returns, and the memory that it took."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_pictures_take_no_more_memory_for_larger_volumes(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_LEAST_BYTES", 1)
    monkeypatch.setattr(metrics, "_SLAB_VOXELS", 100_000)
    monkeypatch.setattr(pictures, "_LOOKED_AT", 100_000)
    place = Scratch(tmp_path)
    small, large = (made((depth, 320, 320), place.room) for depth in (20, 60))
    pictures.draw_results([small], 0.5)
    least, most = (traced(lambda v=v: pictures.draw_results([v], 0.5))[1] for v in (small, large))
    assert most - least < 6e6  # of the 16 MB that a volume is larger


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_that_of_a_few_planes(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(scratch, "_LEAST_BYTES", 1)
    for module in (metrics, labelling):
        monkeypatch.setattr(module, "_SLAB_VOXELS", 100_000)
    place = Scratch(tmp_path, None)
    result = made((40, 320, 320), place.room)  # 16 MB a volume
    assert is_mapped(result.structure)
    measured, peak = traced(
        lambda: KINDS[kind].measure(result, 0.5, KINDS[kind].errors(result), place)
    )
    assert peak < 6e6
    whole = made((40, 320, 320), lambda shape, dtype: np.zeros(shape, dtype))
    expected = KINDS[kind].measure(whole, 0.5, KINDS[kind].errors(whole), IN_MEMORY)
    assert dict(measured.values) == pytest.approx(dict(expected.values), rel=1e-4)
    assert len(measured.objects) == len(expected.objects) == (kind != "simulation")
    for one in measured.objects:  # larger than what is looked at at once
        assert one.volume_um3 == pytest.approx(40 * 20 * 20 * 0.2**3)
    assert measured.objects == expected.objects


SMAPS = Path("/proc/self/smaps")


def resident(volume):
    """Return how many bytes of a mapped volume this process holds."""
    address, blocks = volume.ctypes.data, re.split(r"^(?=\w+-\w+ )", SMAPS.read_text(), flags=re.M)
    (block,) = (b for b in blocks if b.startswith(f"{address:x}-"))
    return 1024 * int(re.search(r"^Rss: +(\d+)", block, re.M)[1])


@pytest.mark.skipif(not SMAPS.exists(), reason="no such file")
@pytest.mark.parametrize("kind", KINDS)
def test_pages_of_mapped_volumes_are_given_back(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(scratch, "_LEAST_BYTES", 1)
    place = Scratch(tmp_path)
    result = made((16, 64, 64), place.room)
    assert result.structure.sum() > 0
    assert resident(result.structure) == result.structure.nbytes
    KINDS[kind].measure(result, 0.5, KINDS[kind].errors(result), place)
    pictures.draw_results([result], 0.5)
    volumes = (result.structure, result.brightness, result.image, result.reconstruction)
    assert [resident(volume) for volume in volumes] == [0] * 4


def test_objects_too_large_for_the_memory_have_no_surface(tmp_path, monkeypatch):
    result = made((16, 60, 60), IN_MEMORY.room)
    monkeypatch.setattr(Scratch, "object_bytes", lambda _: 1000.0)
    measured = KINDS["beads"].measure(result, 0.5, {}, Scratch(tmp_path))
    (column,) = measured.objects
    assert math.isnan(column.surface_um2)
    assert column.volume_um3 == pytest.approx(16 * 20 * 20 * 0.2**3)
    numbers = KINDS["beads"].numbers([measured])
    assert (len(numbers["volume_um3"]), len(numbers["sphericity"])) == (1, 0)


def test_a_full_disk_is_told(tmp_path):
    with pytest.raises(UserError, match="are needed"):
        Scratch(tmp_path).room((2**20, 2**15, 2**15))
