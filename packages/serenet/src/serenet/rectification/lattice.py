"""The microlens lattice of a camera frame: pitch, rotation and offset, found to sub-pixels.

Positions are in camera pixels, (y, x), pixel centres at whole numbers from 0.
"""

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage, optimize

from scopekit.errors import Page, UserError

MIN_LENSES = 8
MIN_PITCH = 4.0
MAX_ROTATION_DEG = 10.0
_MIN_CYCLES = 3.0  # slower than this is illumination
_MIN_PEAK = 40.0  # white noise: exp(-40) per frequency
_MIN_SECOND = 0.01  # of the first peak's power
_MAX_WOBBLE = 0.1  # pitches
_MAX_PITCH_RATIO = 1.04
_MAX_SKEW_DEG = 2.0

Frame = NDArray[np.floating]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class Lattice(BaseModel):
    """A square microlens lattice over a frame, restricted to whole lenses.

    The lens in row i and column j is centred on ``offset + i row_step + j column_step``. The
    centre is that of the lens's image, the bright spot, not of the dark gap.

    Attributes
    ----------
    frame_shape
        (Y, X) of the frames it belongs to.
    rows, columns
        Lenses that lie wholly inside the frame, as the largest upright block of the lattice.
    pitch_y, pitch_x
        Length of the step to the next row and to the next column, pixels.
    rotation_deg
        Mean rotation of the two steps, positive from +x towards +y: clockwise on a screen.
    skew_deg
        By how much more the row step is turned than the column step; 0 for a perfect square.
    offset_y, offset_x
        Centre of the lens in row 0 and column 0, pixels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frame_shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    rows: Annotated[int, Field(ge=1)]
    columns: Annotated[int, Field(ge=1)]
    pitch_y: Annotated[_Finite, Field(ge=MIN_PITCH)]
    pitch_x: Annotated[_Finite, Field(ge=MIN_PITCH)]
    rotation_deg: Annotated[_Finite, Field(ge=-MAX_ROTATION_DEG, le=MAX_ROTATION_DEG)]
    skew_deg: Annotated[_Finite, Field(ge=-_MAX_SKEW_DEG, le=_MAX_SKEW_DEG)]
    offset_y: _Finite
    offset_x: _Finite

    @model_validator(mode="after")
    def _check_inside(self) -> "Lattice":
        corners = self.centres()[:: max(self.rows - 1, 1), :: max(self.columns - 1, 1)]
        if (corners < 0).any() or (corners > np.subtract(self.frame_shape, 1)).any():
            raise ValueError("the lattice reaches out of its frame")
        return self

    @property
    def steps(self) -> NDArray[np.float64]:
        """Row step and column step, each (y, x), as the rows of a (2, 2) array."""
        row = math.radians(self.rotation_deg + self.skew_deg / 2)
        column = math.radians(self.rotation_deg - self.skew_deg / 2)
        return np.array(
            [
                [self.pitch_y * math.cos(row), -self.pitch_y * math.sin(row)],
                [self.pitch_x * math.sin(column), self.pitch_x * math.cos(column)],
            ]
        )

    @property
    def nearest_odd(self) -> int:
        """The odd number of pixels a lens that changes the frame's sampling least."""
        return 2 * round((math.sqrt(self.pitch_y * self.pitch_x) - 1) / 2) + 1

    def centres(self, row_shift: float = 0.0, column_shift: float = 0.0) -> NDArray[np.float64]:
        """Return the centres of all lenses, or points beside them.

        Parameters
        ----------
        row_shift, column_shift
            Distance from the centres, in row and column steps.

        Returns
        -------
        ndarray
            (rows, columns, 2), the last axis (y, x).
        """
        row_step, column_step = self.steps
        i = np.arange(self.rows)[:, None, None] + row_shift
        j = np.arange(self.columns)[None, :, None] + column_shift
        first = np.array([self.offset_y, self.offset_x])
        points: NDArray[np.float64] = first + i * row_step + j * column_step
        return points


def rectified_lattice(shape: tuple[int, int], side: int) -> Lattice:
    """Return the lattice of a frame that was resampled so that ``side`` pixels make a lens.

    Parameters
    ----------
    shape
        (Y, X) of the frame; the first lens lies in its first rows and columns.
    side
        Pixels a microlens side.

    Raises
    ------
    UserError
        If the frame holds no whole number of lenses.
    """
    if side < MIN_PITCH or any(n < side or n % side for n in shape):
        raise UserError(
            f"`rectified={side}`: {shape[0]} x {shape[1]} pixels are no whole microlenses of "
            f"{side} x {side} (at least {MIN_PITCH:.0f}); crop the frame at the border of a lens",
            page=Page.rectifying,
        )
    return Lattice(
        frame_shape=shape,
        rows=shape[0] // side,
        columns=shape[1] // side,
        pitch_y=side,
        pitch_x=side,
        rotation_deg=0,
        skew_deg=0,
        offset_y=(side - 1) / 2,
        offset_x=(side - 1) / 2,
    )


def find_lattice(radiometry: Frame) -> Lattice:
    """Find the microlens lattice in a frame of homogeneous light.

    The two fundamental frequencies k of the lattice are the highest peaks of the power spectrum.
    Each is refined to the maximum of ``|F(k)|``, ``F(k) = sum_r w(r) I(r) exp(-2 pi i k r)``, w
    falling to 0 over the outermost two lenses and I being free of its local mean. A smooth
    positive envelope (the window, vignetting) shifts neither that maximum nor the phase there,
    and the phase, ``-2 pi k o``, is that of the lens images' common centre o.

    Parameters
    ----------
    radiometry
        (Y, X), camera frame of homogeneous fluorescence; best with the dark frame subtracted.

    Returns
    -------
    Lattice
        All lenses that lie wholly inside the frame.

    Raises
    ------
    UserError
        If the frame is too small, shows no lattice, or one that is not square, or is turned by
        more than 10 degrees.

    Notes
    -----
    On synthetic frames of 15 to 20 lenses a side with 6 % noise, hot pixels and vignetting the
    pitch is within 0.003 pixels and every centre within 0.03. Lenses that are evenly bright in
    themselves, but dimmer by 30 % at the border than in the middle, move the outermost centres
    by another 0.03.
    """
    if radiometry.ndim != 2:
        raise UserError(f"the radiometry frame has shape {radiometry.shape}; expected one 2D frame")
    if min(radiometry.shape) < MIN_LENSES * MIN_PITCH:
        raise UserError(
            f"the radiometry frame has only {radiometry.shape[0]} x {radiometry.shape[1]} pixels; "
            f"at least {MIN_LENSES} x {MIN_LENSES} microlenses are needed to find the lattice",
            page=Page.rectifying,
        )
    frame = _without_hot_pixels(radiometry.astype(np.float64))
    coarse = _coarse_peaks(frame)
    windowed = _taper(frame, 1 / np.hypot(*coarse[0]))
    waves = np.array([_refine(windowed, k) for k in coarse])
    row_wave, column_wave = sorted(waves, key=lambda k: -abs(k[0]))
    waves = np.array([row_wave * np.sign(row_wave[0]), column_wave * np.sign(column_wave[1])])
    _require_regular(windowed, waves)
    steps = np.linalg.inv(waves).T
    pitch = np.hypot(*steps.T)
    row_turn = math.degrees(math.atan2(-steps[0, 1], steps[0, 0]))
    column_turn = math.degrees(math.atan2(steps[1, 0], steps[1, 1]))
    _require_square(frame.shape, pitch, row_turn, column_turn)

    phases = np.array([np.angle(_transform(windowed, k)) for k in waves])
    offset = np.linalg.solve(waves, -phases / (2 * np.pi))
    first, count = _whole_lenses(frame.shape, offset, steps)
    offset = offset + first @ steps
    return Lattice(
        frame_shape=frame.shape,
        rows=int(count[0]),
        columns=int(count[1]),
        pitch_y=float(pitch[0]),
        pitch_x=float(pitch[1]),
        rotation_deg=(row_turn + column_turn) / 2,
        skew_deg=row_turn - column_turn,
        offset_y=float(offset[0]),
        offset_x=float(offset[1]),
    )


def _without_hot_pixels(frame: NDArray[np.float64]) -> NDArray[np.float64]:
    smooth = ndimage.median_filter(frame, size=3)
    outlying = np.abs(frame - smooth)
    return np.where(outlying > 10 * np.median(outlying), smooth, frame)


def _taper(frame: NDArray[np.float64], pitch: float) -> NDArray[np.float64]:
    """Return ``frame`` without its local mean, fading out over two pitches at every edge."""
    # Takes a second to load, which other uses of this module need not wait for.
    from scipy.signal.windows import tukey

    rows, columns = (tukey(n, min(4 * pitch / n, 1)) for n in frame.shape)
    detail: NDArray[np.float64] = frame - ndimage.gaussian_filter(frame, pitch)
    return detail * np.outer(rows, columns)


def _transform(frame: NDArray[np.float64], wave: NDArray[np.float64]) -> complex:
    """Return the Fourier transform of ``frame`` at any frequency (y, x), cycles per pixel."""
    row, column = (
        np.exp(-2j * np.pi * k * np.arange(n)) for k, n in zip(wave, frame.shape, strict=True)
    )
    # Two real products: a complex one would copy the frame.
    return complex(row @ (frame @ column.real + 1j * (frame @ column.imag)))


def _coarse_peaks(frame: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the strongest frequency and the strongest one in another direction."""
    window = np.outer(*(np.hanning(n) for n in frame.shape))
    mean = np.average(frame, weights=window)
    power = np.abs(np.fft.rfft2((frame - mean) * window)) ** 2
    ky = np.fft.fftfreq(frame.shape[0])[:, None]
    kx = np.fft.rfftfreq(frame.shape[1])[None, :]
    radius = np.hypot(ky, kx)
    usable = (radius > _MIN_CYCLES / min(frame.shape)) & (radius < 1 / MIN_PITCH)
    noise = np.median(power[usable]) / math.log(2)
    rounding = (1e-6 * mean * window.sum()) ** 2
    least = max(_MIN_PEAK * noise, rounding)
    peaks: list[NDArray[np.float64]] = []
    for _ in range(2):
        at = np.unravel_index(np.argmax(np.where(usable, power, -1)), power.shape)
        if not power[at] > least:
            raise _nothing_found("only stripes" if peaks else "no microlens lattice")
        least = max(least, _MIN_SECOND * power[at])
        peak = np.array([ky[at[0], 0], kx[0, at[1]]])
        peaks.append(peak)
        along = np.abs(ky * peak[0] + kx * peak[1]) / np.maximum(radius * np.hypot(*peak), 1e-12)
        usable &= along < math.cos(math.radians(30))
    return peaks


def _refine(windowed: NDArray[np.float64], coarse: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the frequency near ``coarse`` at which the transform is largest."""
    bins = 1 / np.array(windowed.shape)
    top = abs(_transform(windowed, coarse))
    found = optimize.minimize(
        lambda shift: -abs(_transform(windowed, coarse + shift * bins)) / top,
        np.zeros(2),
        method="Nelder-Mead",
        options={
            "initial_simplex": [[0.3, 0.3], [-0.3, 0.3], [0, -0.3]],
            "xatol": 1e-4,
            "fatol": 1e-10,
        },
    )
    if max(abs(found.x)) > 1:
        raise _nothing_found("no microlens lattice")
    refined: NDArray[np.float64] = coarse + found.x * bins
    return refined


def _nothing_found(what: str) -> UserError:
    return UserError(
        f"the radiometry frame shows {what}; use a frame of homogeneous fluorescence in which the "
        "lens images are distinct",
        page=Page.rectifying,
    )


def _require_square(
    shape: tuple[int, ...], pitch: NDArray[np.float64], row_turn: float, column_turn: float
) -> None:
    angle = 90 - column_turn + row_turn
    if min(abs(angle - 60), abs(angle - 120)) < 5 and max(pitch) < 1.1 * min(pitch):
        raise UserError(
            f"the microlens lattice is not square but hexagonal: lenses {pitch.mean():.2f} pixels "
            f"apart in rows at {angle:.1f} degrees; light fields of such microscopes cannot be "
            "rectified here",
            page=Page.rectifying,
        )
    if max(pitch) > _MAX_PITCH_RATIO * min(pitch) or abs(row_turn - column_turn) > _MAX_SKEW_DEG:
        raise UserError(
            f"the microlens lattice is not square: pitches of {pitch[0]:.2f} and {pitch[1]:.2f} "
            f"pixels at {90 - column_turn + row_turn:.1f} degrees; only square lattices can be "
            "rectified",
            page=Page.rectifying,
        )
    lenses = np.array(shape) / pitch
    if min(lenses) < MIN_LENSES:
        raise UserError(
            f"the radiometry frame holds only {lenses[0]:.1f} x {lenses[1]:.1f} microlenses; "
            f"at least {MIN_LENSES} x {MIN_LENSES} are needed to find the lattice",
            page=Page.rectifying,
        )
    if abs(row_turn + column_turn) / 2 > MAX_ROTATION_DEG:
        raise UserError(
            f"the microlens lattice is turned by {(row_turn + column_turn) / 2:.1f} degrees; "
            f"turn the frames so that it is within {MAX_ROTATION_DEG:g}",
            page=Page.rectifying,
        )


def _require_regular(windowed: NDArray[np.float64], waves: NDArray[np.float64]) -> None:
    """Raise `UserError` unless the local phase of both waves is steady over the frame."""
    for wave in waves:
        pitch = 1 / np.hypot(*wave)
        down, across = (
            np.exp(-0.5 * ((at - at[:: round(pitch), None]) / pitch) ** 2 - 2j * np.pi * k * at)
            for k, at in zip(wave, map(np.arange, windowed.shape), strict=True)
        )
        local = down @ windowed @ across.T
        steadiness = abs(local.sum()) / np.abs(local).sum()
        wobble = math.sqrt(-2 * math.log(steadiness)) / (2 * math.pi)
        if wobble > _MAX_WOBBLE:
            raise UserError(
                f"the radiometry frame shows no regular lattice: the microlens images stray by "
                f"{wobble * pitch:.1f} pixels from a straight one; use a frame of homogeneous "
                "fluorescence, in focus on the microlens array",
                page=Page.rectifying,
            )


def _whole_lenses(
    shape: tuple[int, ...], offset: NDArray[np.float64], steps: NDArray[np.float64]
) -> tuple[NDArray[np.int_], NDArray[np.int_]]:
    """Return the first (row, column) and the number of rows and columns inside the frame."""
    half = np.abs(steps).sum(axis=0) / 2
    low, high = half - 0.5, np.array(shape) - 0.5 - half
    columns = _range_inside(low[1], high[1], offset[1], steps[1, 1])
    ends = offset[0] + np.array(columns) * steps[1, 0]
    rows = _range_inside(low[0] - min(ends), high[0] - max(ends), 0.0, steps[0, 0])
    ends = offset[1] + np.array(rows) * steps[0, 1]
    tilted = _range_inside(low[1] - min(ends), high[1] - max(ends), 0.0, steps[1, 1])
    columns = max(columns[0], tilted[0]), min(columns[1], tilted[1])
    first, last = np.array([rows[0], columns[0]]), np.array([rows[1], columns[1]])
    return first, last - first + 1


def _range_inside(low: float, high: float, start: float, step: float) -> tuple[int, int]:
    """Return the first and last i with ``low <= start + i step <= high``."""
    return math.ceil((low - start) / step), math.floor((high - start) / step)
