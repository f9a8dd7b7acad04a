"""Files of a folder in order: numbers in their names count as numbers."""

import random
from pathlib import Path

import pytest

from scopekit.images.order import by_number


@pytest.mark.parametrize(
    "names",
    [
        ["No1.tif", "No2.tif", "No10.tif"],
        ["No2_x3.tif", "No10_x3.tif", "No100.tif"],
        ["2.tif", "10.tif", "a1b2.tif", "a1b10.tif", "a2b1.tif"],
        ["02.tif", "2.tif", "3.tif"],  # equal numbers by name
        ["cell", "cell1.tif", "cell.tif", "cell²5.tif"],
    ],
)
def test_numbers_count_as_numbers(names: list[str]) -> None:
    for seed in range(5):
        mixed = [Path("folder7", name) for name in names]
        random.Random(seed).shuffle(mixed)
        assert [file.name for file in sorted(mixed, key=by_number)] == names
