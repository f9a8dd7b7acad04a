import json
import math
from typing import Any

import pytest
from pydantic import ValidationError

from optics import LightFieldMicroscope, OpticsError, phase_space_psf, presets
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
    microscope = presets[name]
    assert len(microscope.depths_um) == 101
    assert (microscope.depths_um[0], microscope.depths_um[50], microscope.depths_um[-1]) == (
        -end,
        0,
        end,
    )
    assert microscope.depth_step_um == pytest.approx(step)


def test_derived_lengths() -> None:
    microscope = presets["nnum13"]
    assert microscope.pixel_um == pytest.approx(0.1221, abs=1e-4)
    assert microscope.lateral_scale == pytest.approx(13 / 3)
    assert microscope.central_view == 84
    assert presets["nnum15"].lateral_scale == 5
    assert presets["nnum15"].central_view == 112
    assert LightFieldMicroscope(**WATER).lateral_scale == 15
    assert LightFieldMicroscope(**{**WATER, "depths_um": [3.0]}).depth_step_um == 1


@pytest.mark.parametrize(("n_num", "radius", "count"), [(13, 3, 49), (15, 4, 81), (5, 1, 9)])
def test_a_spiral_names_every_view_once(n_num: int, radius: int, count: int) -> None:
    views = spiral_views(n_num, radius)
    assert len(views) == len(set(views)) == count
    assert views[0] == (n_num**2 - 1) // 2


def test_default_views_lie_within_two_thirds_of_the_aperture() -> None:
    microscope = LightFieldMicroscope(**WATER)
    limit = 2 / 3 * microscope.numerical_aperture / microscope.wavelength_um
    for a in range(microscope.n_num**2):
        u, v = a // 15 - 7, a % 15 - 7
        assert (a in microscope.views) == (math.hypot(u, v) * microscope.view_step <= limit)
    assert microscope.central_view in microscope.views
    assert list(microscope.views) == sorted(microscope.views)
    assert len(microscope.views) == 81
    assert LightFieldMicroscope(**{**WATER, "views": []}) == microscope
    assert LightFieldMicroscope(**{**WATER, "n_num": "15"}) == microscope


@pytest.mark.parametrize(
    "microscope",
    [*presets.values(), LightFieldMicroscope(**WATER)],
    ids=["nnum13", "nnum15", "water"],
)
def test_comes_back_from_plain_values(microscope: LightFieldMicroscope) -> None:
    plain = microscope.model_dump(mode="json")
    assert set(plain["depths_um"]) == {"first", "last", "count"}
    assert LightFieldMicroscope.model_validate(json.loads(json.dumps(plain))) == microscope


@pytest.mark.parametrize("depths", [[0.0], [-1.0, 2.0], [-2.0, 0.0, 1.0]])
def test_uneven_depths_come_back_as_a_list(depths: list[float]) -> None:
    microscope = LightFieldMicroscope(**{**WATER, "depths_um": depths})
    plain = microscope.model_dump(mode="json")
    assert plain["depths_um"] == depths
    assert LightFieldMicroscope.model_validate(plain) == microscope


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
        ({"depths_um": {"first": 0, "last": 1, "count": 10**12}}, "depth_step_um is 1e-12; "),
        ({"depths_um": {"first": -0.01, "last": 0.01, "count": 5}}, "in mm. Then give 5"),
        ({"depths_um": [0, 1e-3, 2e-3]}, "in mm. Then give 1"),
        ({"views": [1, 1]}, "holds a view twice"),
        ({"views": [225]}, "between 0 and 224"),
        ({"views": [-1]}, "between 0 and 224"),
        ({"lens": 1}, "lens"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_wrong_values_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LightFieldMicroscope.model_validate({**WATER, **change})


@pytest.mark.parametrize("name", list(WATER))
def test_a_missing_value_is_named(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name}\n.*required"):
        LightFieldMicroscope.model_validate({k: v for k, v in WATER.items() if k != name})


@pytest.mark.parametrize("view", [32, 47, 84])
def test_psf_size_holds_the_spots_of_all_views(view: int) -> None:
    microscope = presets["nnum13"]
    assert microscope.psf_size == 195
    assert presets["nnum15"].psf_size == 239
    one_sided = microscope.with_depths((0.0, 25.0))
    assert one_sided.psf_size == microscope.with_depths((-25.0, 25.0)).psf_size > 195
    deep = microscope.with_depths((-25.0, 25.0))
    kept, whole = (
        phase_space_psf(deep, depths_um=(25.0,), views=(view,), size=size).sum()
        for size in (deep.psf_size, 2 * deep.psf_size)
    )
    assert kept > 0.9 * whole


def test_derived_lengths_and_shapes() -> None:
    microscope = presets["nnum13"]
    pixel = 100 / 13 / 63
    assert microscope.voxel_um == pytest.approx((0.2, pixel, pixel))
    assert microscope.view_pixel_um == pytest.approx(100 / 3 / 63)
    assert microscope.volume_shape((99, 20)) == (101, 429, 87)


def test_other_views_and_depths_are_checked() -> None:
    microscope = presets["nnum13"]
    assert microscope.with_views([84, 3]).views == (84, 3)
    assert microscope.with_views([84, 3]).depths_um == microscope.depths_um
    assert microscope.with_all_views().views == tuple(range(169))
    assert microscope.with_depths([-1, 4]).depths_um == (-1, 4)
    assert microscope.with_depths([-1, 4]).views == microscope.views
    for views, fault in (([], "empty"), ([84, 84], "twice"), ([169], "0 and 168")):
        with pytest.raises(OpticsError, match=fault):
            microscope.with_views(views)
    for depths, fault in (([], "empty"), ([1, 0], "increase")):
        with pytest.raises(OpticsError, match=fault):
            microscope.with_depths(depths)


def test_the_middle_depths_lie_around_the_focus() -> None:
    microscope = presets["nnum13"]
    assert microscope.with_middle_depths(3).depths_um == (-0.2, 0, 0.2)
    assert microscope.with_middle_depths(101) == microscope
    for count in (0, 102):
        with pytest.raises(OpticsError, match=f"{count} depths: the microscope has 101"):
            microscope.with_middle_depths(count)


def test_places_of_views_and_their_order_from_the_most_oblique() -> None:
    microscope = presets["nnum13"].with_views([84, 0, 85, 84 - 13, 84 - 26 + 1])
    assert microscope.view_coordinates == [(0, 0), (-6, -6), (0, 1), (-1, 0), (-2, 1)]
    assert microscope.oblique_first == [1, 4, 2, 3, 0]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("wavelength_um", 593.0, "Is it in nm? Then give 0.593"),
        ("microlens_focal_length_um", 2.5, "Is it in mm? Then give 2500"),
        ("microlens_pitch_um", 1e-4, "Is it in m? Then give 100"),
        ("microlens_pitch_um", 1e9, "must lie between 5 and 5000 um"),
        ("magnification", 0.5, "must lie between 1 and 250"),
        ("refractive_index", 13.5, "must lie between 1 and 2"),
    ],
)
def test_lengths_in_other_units_are_told(name: str, value: float, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        LightFieldMicroscope.model_validate(WATER | {name: value})
    text = refused.value.errors()[0]["msg"].removeprefix("Value error, ")
    assert text.startswith(f"{name} is {value:g}; ")
    assert text.endswith(told)


def test_depths_in_nanometres_are_told() -> None:
    microscope = LightFieldMicroscope.model_validate(WATER)
    with pytest.raises(OpticsError, match=r"depths_um reach 18000 um, .* 18000 nm are 18 um: is"):
        microscope.with_depths([1000 * z for z in microscope.depths_um])


def test_fewer_voxels_a_lens_sample_the_same_field_more_coarsely():
    scope = presets["nnum13"].with_voxels_a_lens(9)
    assert scope.pixel_um == pytest.approx(13 / 9 * presets["nnum13"].pixel_um)
    assert scope.view_pixel_um == pytest.approx(presets["nnum13"].view_pixel_um)
    assert scope.volume_shape((24, 21))[1:] == (72, 63)
    assert scope.view_step == presets["nnum13"].view_step
    with pytest.raises(OpticsError, match="voxels_a_lens"):
        scope.with_voxels_a_lens(0)
    with pytest.raises(OpticsError, match="below scanning"):
        scope.with_voxels_a_lens(2)
