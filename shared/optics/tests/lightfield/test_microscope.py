import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from optics import LightFieldPreset, phase_space_psf, presets
from optics.lightfield.microscope import evenly_spaced, spiral_views

# The channel orders of the published networks.
VIEWS_49 = """
84 85 98 97 96 83 70 71 72 73 86 99 112 111 110 109 108 95 82 69 56 57 58 59 60 61 74 87 100 113
125 124 123 122 121 107 94 81 68 55 43 44 45 46 47 88 136 80 32
"""
VIEWS_81 = """
112 113 128 127 126 111 96 97 98 99 114 129 144 143 142 141 140 125 110 95 80 81 82 83 84 85 100
115 130 145 160 159 158 157 156 155 154 139 124 109 94 79 64 65 66 67 68 69 70 71 86 101 116 131
146 161 175 174 173 172 171 170 169 153 138 123 108 93 78 63 49 50 51 52 53 54 55 117 187 107 37
"""
WATER: dict[str, Any] = {
    "magnification": 60,
    "numerical_aperture": 1.2,
    "refractive_index": 1.35,
    "wavelength_um": 0.593,
    "microlens_pitch_um": 100,
    "microlens_focal_length_um": 2500,
    "n_num": 15,
    "depths_um": {"first": -18, "last": 18, "count": 52},
}


def test_views_are_in_the_networks_order() -> None:
    assert presets["nnum13"].views == tuple(map(int, VIEWS_49.split()))
    assert presets["nnum15"].views == tuple(map(int, VIEWS_81.split()))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nnum13", (63, 1.4, 1.515, 0.525, 100, 2100, 13, 3)),
        ("nnum15", (20, 1.05, 1.406, 0.525, 97.5, 536.4, 15, 3)),
    ],
)
def test_presets_hold_the_published_optics(name: str, expected: tuple[float, ...]) -> None:
    values = presets[name].model_dump(exclude={"depths_um", "views"})
    assert tuple(values.values()) == expected


@pytest.mark.parametrize(("name", "end", "step"), [("nnum13", 10, 0.2), ("nnum15", 30, 0.6)])
def test_presets_have_101_depths(name: str, end: float, step: float) -> None:
    preset = presets[name]
    assert len(preset.depths_um) == 101
    assert (preset.depths_um[0], preset.depths_um[50], preset.depths_um[-1]) == (-end, 0, end)
    assert preset.depth_step_um == pytest.approx(step)


def test_derived_lengths() -> None:
    preset = presets["nnum13"]
    assert preset.pixel_um == pytest.approx(0.1221, abs=1e-4)
    assert preset.lateral_scale == pytest.approx(13 / 3)
    assert preset.central_view == 84
    assert presets["nnum15"].lateral_scale == 5
    assert presets["nnum15"].central_view == 112
    assert LightFieldPreset(**WATER).lateral_scale == 15
    assert LightFieldPreset(**{**WATER, "depths_um": [3.0]}).depth_step_um == 1


@pytest.mark.parametrize(("n_num", "radius", "count"), [(13, 3, 49), (15, 4, 81), (5, 1, 9)])
def test_a_spiral_names_every_view_once(n_num: int, radius: int, count: int) -> None:
    views = spiral_views(n_num, radius)
    assert len(views) == len(set(views)) == count
    assert views[0] == (n_num**2 - 1) // 2


def test_default_views_lie_within_two_thirds_of_the_aperture() -> None:
    preset = LightFieldPreset(**WATER)
    limit = 2 / 3 * preset.numerical_aperture / preset.wavelength_um
    for a in range(preset.n_num**2):
        u, v = a // 15 - 7, a % 15 - 7
        assert (a in preset.views) == (math.hypot(u, v) * preset.view_step <= limit)
    assert preset.central_view in preset.views
    assert list(preset.views) == sorted(preset.views)
    assert len(preset.views) == 81
    assert LightFieldPreset(**{**WATER, "views": []}) == preset
    assert LightFieldPreset(**{**WATER, "n_num": "15"}) == preset


@pytest.mark.parametrize(
    "preset", [*presets.values(), LightFieldPreset(**WATER)], ids=["nnum13", "nnum15", "water"]
)
def test_comes_back_from_plain_values(preset: LightFieldPreset) -> None:
    plain = preset.model_dump(mode="json")
    assert set(plain["depths_um"]) == {"first", "last", "count"}
    assert LightFieldPreset.model_validate(json.loads(json.dumps(plain))) == preset


@pytest.mark.parametrize("depths", [[0.0], [-1.0, 2.0], [-2.0, 0.0, 1.0]])
def test_uneven_depths_come_back_as_a_list(depths: list[float]) -> None:
    preset = LightFieldPreset(**{**WATER, "depths_um": depths})
    plain = preset.model_dump(mode="json")
    assert plain["depths_um"] == depths
    assert LightFieldPreset.model_validate(plain) == preset


def test_even_spacing_meets_zero_and_both_ends() -> None:
    assert evenly_spaced(-0.3, 0.3, 7) == (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
    assert evenly_spaced(2, 5, 1) == (2,)


def test_presets_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        presets["nnum13"].n_num = 15  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"numerical_aperture": 1.35}, "must be below refractive_index"),
        ({"n_num": 14}, "must be odd"),
        ({"n_num": 1}, "greater than or equal to 3"),
        ({"n_num": 15.5}, "valid integer"),
        ({"scanning": 16}, "must not exceed n_num"),
        ({"scanning": 0}, "greater than or equal to 1"),
        ({"magnification": 0}, "greater than 0"),
        ({"wavelength_um": math.nan}, "finite|greater than 0"),
        ({"microlens_pitch_um": "wide"}, "valid number"),
        ({"microlens_focal_length_um": None}, "valid number"),
        ({"depths_um": []}, "depths_um is empty"),
        ({"depths_um": [1, 0]}, "must increase"),
        ({"depths_um": [0, 0]}, "must increase"),
        ({"depths_um": [0, math.inf]}, "finite"),
        ({"depths_um": {"first": 0, "last": 1}}, "first, last and count"),
        ({"depths_um": {"first": 0, "last": 1, "count": 0}}, "at least 1"),
        ({"depths_um": {"first": "a", "last": 1, "count": 2}}, "first and last must be"),
        ({"depths_um": {"first": None, "last": 1, "count": 2}}, "first and last must be"),
        ({"depths_um": {"first": 0, "last": 1, "count": 2.5}}, "a whole number"),
        ({"depths_um": {"first": 1, "last": 0, "count": 5}}, "must increase"),
        ({"views": [1, 1]}, "holds a view twice"),
        ({"views": [225]}, "between 0 and 224"),
        ({"views": [-1]}, "between 0 and 224"),
        ({"lens": 1}, "lens"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LightFieldPreset.model_validate({**WATER, **change})


@pytest.mark.parametrize("name", list(WATER))
def test_a_missing_value_is_named(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*required"):
        LightFieldPreset.model_validate({k: v for k, v in WATER.items() if k != name})


@pytest.mark.parametrize("view", [32, 47, 84])
def test_psf_size_holds_the_spots_of_all_views(view: int) -> None:
    preset = presets["nnum13"]
    assert preset.psf_size == 195
    deep = preset.model_copy(update={"depths_um": (-25.0, 25.0)})
    kept, whole = (
        phase_space_psf(deep, depths_um=(25.0,), views=(view,), size=size).sum()
        for size in (deep.psf_size, 2 * deep.psf_size)
    )
    assert kept > 0.9 * whole
