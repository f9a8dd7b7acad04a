"""Light-field microscopes: their parameters, derived lengths, and the two standard presets.

Lengths are in um. View ``a = u * n_num + v`` is the camera pixel in row u and column v under
every microlens, both counted from 0.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)

from optics.errors import OpticsError
from optics.lightfield.sampling import volume_size
from optics.plausibility import implausible

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# Voxels over which a point may spread: 60 GB of a PSF of 100 views and 100 planes at most.
_WIDEST_PSF = 1500


def spiral_views(n_num: int, radius: int) -> tuple[int, ...]:
    """Return the views of a square spiral from the centre, in the networks' channel order.

    The spiral goes right, down, left, up, through all views within ``radius`` rows and columns;
    the corners of the outermost ring are cut and four single views at ``radius + 1`` (right,
    below, left, above) end the list.

    Parameters
    ----------
    n_num
        Views per microlens side, odd.
    radius
        Rings around the central view; 3 gives 49 views, 4 gives 81.
    """
    steps = ((0, 1), (1, 0), (0, -1), (-1, 0))
    positions = [(0, 0)]
    row, column, turn, run = 0, 0, 0, 1
    while len(positions) < (2 * radius + 1) ** 2:
        for _ in range(2):
            for _ in range(run):
                row, column = row + steps[turn % 4][0], column + steps[turn % 4][1]
                positions.append((row, column))
            turn += 1
        run += 1
    inside = [
        (r, c)
        for r, c in positions
        if max(abs(r), abs(c)) <= radius and not (abs(r) == abs(c) == radius)
    ]
    far = [(r * (radius + 1), c * (radius + 1)) for r, c in steps]
    middle = n_num // 2
    return tuple((r + middle) * n_num + c + middle for r, c in inside + far)


def view_coordinates(views: Sequence[int], n_num: int) -> list[tuple[int, int]]:
    """Return row and column of every view, counted from the central one."""
    middle = n_num // 2
    return [(a // n_num - middle, a % n_num - middle) for a in views]


class LightFieldMicroscope(BaseModel):
    """A light-field microscope and the sampling of the volumes reconstructed from it.

    Attributes
    ----------
    magnification
        From the object to the microlens array.
    numerical_aperture
        Of the objective; below ``refractive_index``.
    refractive_index
        Of the immersion medium.
    wavelength_um
        Emission wavelength in vacuum, um.
    microlens_pitch_um, microlens_focal_length_um
        Of the square microlens array, um.
    n_num
        Views (camera pixels) per microlens side; odd.
    scanning
        Scan positions per microlens side; 1 is an unscanned light field.
    depths_um
        Depths of the volume's planes, um, 0 being the focal plane. In YAML also
        ``{first: -10, last: 10, count: 101}``.
    z_direction
        Where positive depths lie: ``away`` from the objective (their waves diverge at the
        microlenses) or ``towards`` it.
    voxels_a_lens
        Voxels of the volume per microlens side, n_num if left out. Of an unscanned light field
        5 hold nearly all that the views tell.
    views
        The views used for reconstruction, in channel order; left out: all whose direction lies
        within two thirds of the objective's aperture (beyond, aberrations and vignetting spoil
        them and the PSF spreads far).

    Examples
    --------
    >>> import optics
    >>> microscope = optics.presets["nnum13"].with_middle_depths(9)
    >>> microscope.volume_shape((24, 21))
    (9, 104, 91)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    magnification: Positive
    numerical_aperture: Positive
    refractive_index: Positive
    wavelength_um: Positive
    microlens_pitch_um: Positive
    microlens_focal_length_um: Positive
    n_num: Annotated[int, Field(ge=3, le=99)]
    scanning: Annotated[int, Field(ge=1)] = 1
    depths_um: tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
    views: tuple[int, ...] = ()
    z_direction: Literal["away", "towards"] = "away"
    voxels_a_lens: Annotated[int, Field(ge=0, le=99)] = 0

    @field_validator("depths_um", mode="before")
    @classmethod
    def _expand_depths(cls, value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) != {"first", "last", "count"}:
                raise ValueError("give first, last and count, or a list of depths")
            first, last, count = (value[name] for name in ("first", "last", "count"))
            if not isinstance(count, int) or count < 1:
                raise ValueError("count must be a whole number, at least 1")
            if not all(isinstance(end, int | float) for end in (first, last)):
                raise ValueError("first and last must be numbers")
            if count > 1:
                _require_step((last - first) / (count - 1))
            return evenly_spaced(first, last, count)
        return value

    @field_validator("*")
    @classmethod
    def _is_plausible(cls, value: Any, info: ValidationInfo) -> Any:
        fault = implausible(str(info.field_name), value)
        if fault:
            raise ValueError(fault)
        return value

    @field_serializer("depths_um", when_used="json")
    def _shorten_depths(self, depths: tuple[float, ...]) -> Any:
        if len(depths) > 2 and depths == evenly_spaced(depths[0], depths[-1], len(depths)):
            return {"first": depths[0], "last": depths[-1], "count": len(depths)}
        return list(depths)

    @model_serializer(mode="wrap")
    def _leave_out_what_is_usual(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = plain(self)
        usual = {"z_direction": "away", "voxels_a_lens": self.n_num}
        return {n: v for n, v in content.items() if n not in usual or v != usual[n]}

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> "LightFieldMicroscope":
        """Return a copy, nothing checked; as many voxels a lens as views stay as many."""
        changes = dict(update or {})
        if "n_num" in changes and self.voxels_a_lens == self.n_num:
            changes.setdefault("voxels_a_lens", changes["n_num"])
        return super().model_copy(update=changes, deep=deep)

    @model_validator(mode="after")
    def _check(self) -> "LightFieldMicroscope":
        if self.numerical_aperture >= self.refractive_index:
            raise ValueError(
                f"numerical_aperture {self.numerical_aperture} must be below refractive_index "
                f"{self.refractive_index}"
            )
        if self.n_num % 2 == 0:
            raise ValueError(f"n_num {self.n_num} must be odd: there must be a central view")
        if self.scanning > self.n_num:
            raise ValueError(f"scanning {self.scanning} must not exceed n_num {self.n_num}")
        if not self.depths_um:
            raise ValueError("depths_um is empty")
        if list(self.depths_um) != sorted(set(self.depths_um)):
            raise ValueError("depths_um must increase")
        if len(self.depths_um) > 1:
            _require_step(self.depth_step_um)
        if not self.voxels_a_lens:
            self.__dict__["voxels_a_lens"] = self.n_num
        if self.voxels_a_lens < self.scanning:
            raise ValueError(
                f"voxels_a_lens {self.voxels_a_lens} must not be below scanning {self.scanning}"
            )
        if not self.views:
            self.__dict__["views"] = self._views_within_two_thirds()  # frozen from now on
        if len(set(self.views)) != len(self.views):
            raise ValueError("views holds a view twice")
        if min(self.views) < 0 or max(self.views) >= self.n_num**2:
            raise ValueError(f"views must lie between 0 and {self.n_num**2 - 1}")
        if self.psf_size > _WIDEST_PSF:
            farthest = max(map(abs, self.depths_um))
            raise ValueError(
                f"depths_um reach {farthest:g} um, where a point spreads over {self.psf_size} "
                f"voxels; at most {_WIDEST_PSF} can be computed. {farthest:g} nm are "
                f"{farthest / 1000:g} um: is that meant?"
            )
        return self

    def _views_within_two_thirds(self) -> tuple[int, ...]:
        reach = 2 / 3 * self.numerical_aperture / self.wavelength_um / self.view_step
        every = range(self.n_num**2)
        places = zip(every, view_coordinates(every, self.n_num), strict=True)
        return tuple(a for a, place in places if math.hypot(*place) <= reach)

    def with_views(self, views: Sequence[int]) -> "LightFieldMicroscope":
        """Return the same microscope with these views, in this order.

        Raises
        ------
        OpticsError
            If there is none, one is there twice, or one lies outside 0 to n_num^2 - 1.
        """
        if not views:
            raise OpticsError("views is empty")
        return self._with(views=tuple(int(a) for a in views))

    def with_all_views(self) -> "LightFieldMicroscope":
        """Return the same microscope with all ``n_num^2`` views, in the order of the pixels."""
        return self._with(views=tuple(range(self.n_num**2)))

    def with_depths(self, depths_um: Sequence[float]) -> "LightFieldMicroscope":
        """Return the same microscope with these planes, um.

        Raises
        ------
        OpticsError
            If there is none, or they do not increase.
        """
        return self._with(depths_um=tuple(depths_um))

    def with_voxels_a_lens(self, count: int) -> "LightFieldMicroscope":
        """Return the same microscope with volumes of so many voxels per microlens side.

        Raises
        ------
        OpticsError
            If there are none, more than 99, or fewer than scan positions.
        """
        if count < 1:
            raise OpticsError(f"voxels_a_lens {count}: give at least 1")
        return self._with(voxels_a_lens=count)

    def with_z_away(self) -> "LightFieldMicroscope":
        """Return the same microscope, positive depths lying away from the objective."""
        return self._with(z_direction="away")

    def with_middle_depths(self, count: int) -> "LightFieldMicroscope":
        """Return the same microscope with ``count`` planes around the middle of its range.

        Raises
        ------
        OpticsError
            If it has fewer.
        """
        if not 1 <= count <= len(self.depths_um):
            raise OpticsError(f"{count} depths: the microscope has {len(self.depths_um)}")
        first = (len(self.depths_um) - count) // 2
        return self._with(depths_um=self.depths_um[first : first + count])

    def _with(self, **changes: Any) -> "LightFieldMicroscope":
        try:
            return type(self).model_validate(self.model_dump() | changes)
        except ValidationError as failure:
            faults = (error["msg"].removeprefix("Value error, ") for error in failure.errors())
            raise OpticsError("; ".join(faults)) from failure

    @property
    def view_step(self) -> float:
        """Spatial frequency between neighbouring views, 1/um on the object side."""
        return (
            self.microlens_pitch_um
            / self.n_num
            * self.magnification
            / (self.wavelength_um * self.microlens_focal_length_um)
        )

    @property
    def pixel_um(self) -> float:
        """Lateral step of the volume, um: usually the camera pixel on the object side."""
        return self.microlens_pitch_um / self.voxels_a_lens / self.magnification

    @property
    def voxel_um(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) of the volume, um."""
        return self.depth_step_um, self.pixel_um, self.pixel_um

    @property
    def view_pixel_um(self) -> float:
        """Pixel of the views on the object side, um."""
        return self.pixel_um * self.lateral_scale

    @property
    def lateral_scale(self) -> float:
        """Volume pixels per view pixel."""
        return self.voxels_a_lens / self.scanning

    def volume_shape(self, field: Sequence[int]) -> tuple[int, int, int]:
        """Return (D, H, W) of the volume of views of height and width ``field``."""
        height, width = (volume_size(n, self.lateral_scale) for n in field)
        return len(self.depths_um), height, width

    @property
    def central_view(self) -> int:
        """Index of the view along the optical axis."""
        return (self.n_num**2 - 1) // 2

    @property
    def view_coordinates(self) -> list[tuple[int, int]]:
        """Row and column of each of its views, counted from the central one."""
        return view_coordinates(self.views, self.n_num)

    @property
    def oblique_first(self) -> list[int]:
        """Channels of its views, the most oblique first; of equals, the first in ``views``."""
        obliquity = [math.hypot(*place) for place in self.view_coordinates]
        return sorted(range(len(obliquity)), key=lambda channel: -obliquity[channel])

    @property
    def psf_size(self) -> int:
        """Lateral PSF support in volume pixels that holds every view's spot at every depth.

        At least 15 lenses (195 for nnum13), more where oblique views move farther.
        """
        oblique = max(math.hypot(*place) for place in self.view_coordinates)
        # A view takes in directions up to the half-power width of its lens' diffraction.
        spread = 0.44 * self.magnification / self.microlens_pitch_um
        limit = self.numerical_aperture / self.wavelength_um
        frequency = min(oblique * self.view_step + spread, limit)
        sine = frequency * self.wavelength_um / self.refractive_index
        depth_um = max(abs(z) for z in self.depths_um)
        shift = depth_um * sine / math.sqrt(1 - sine**2) / self.pixel_um
        side = self.voxels_a_lens
        return max(15 * side | 1, 2 * math.ceil(shift + side) + 1)

    @property
    def depth_step_um(self) -> float:
        """Mean distance of neighbouring planes, um; 1 for a single plane."""
        if len(self.depths_um) == 1:
            return 1.0
        return round((self.depths_um[-1] - self.depths_um[0]) / (len(self.depths_um) - 1), 6)


def _require_step(step_um: float) -> None:
    fault = implausible("depth_step_um", step_um) if step_um > 0 else None
    if fault:
        raise ValueError(fault)


def evenly_spaced(first: float, last: float, count: int) -> tuple[float, ...]:
    """Return ``count`` evenly spaced numbers, rounded to 1e-6 so that 0 is exactly 0."""
    step = (last - first) / max(count - 1, 1)
    return tuple(round(first + step * i, 6) for i in range(count))


presets: dict[str, LightFieldMicroscope] = {
    "nnum13": LightFieldMicroscope(
        magnification=63,
        numerical_aperture=1.4,
        refractive_index=1.515,
        wavelength_um=0.525,
        microlens_pitch_um=100,
        microlens_focal_length_um=2100,
        n_num=13,
        scanning=3,
        depths_um=evenly_spaced(-10, 10, 101),
        views=spiral_views(13, 3),
    ),
    "nnum15": LightFieldMicroscope(
        magnification=20,
        numerical_aperture=1.05,
        refractive_index=1.406,
        wavelength_um=0.525,
        microlens_pitch_um=97.5,
        microlens_focal_length_um=536.4,
        n_num=15,
        scanning=3,
        depths_um=evenly_spaced(-30, 30, 101),
        views=spiral_views(15, 4),
    ),
}
