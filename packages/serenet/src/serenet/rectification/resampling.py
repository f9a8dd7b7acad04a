"""Raw camera frames of a light-field microscope -> views, by the lattice of its microlenses.

View ``a = u * n_num + v`` holds, for every microlens, the light at row u and column v under it;
rows and columns of lenses and of views run as those of the camera. That is the orientation of
`optics.phase_space_psf`, and nothing is transposed or mirrored: its view (u, v) sees the waves
that travel towards larger rows and columns where u and v are above the middle, and behind a lens
those do fall on that side of its centre. A relay or camera that turns or mirrors the frame turns
positions and directions together, hence only the object, and never z. At z > 0 the model's waves
diverge at the microlenses: their image lies before them, as that of a point farther from the
objective than its focal plane does. With ``z_direction: towards`` a microscope counts otherwise.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from optics import LightFieldMicroscope
from scopekit.errors import Page, UserError
from scopekit.progress import Advance, no_progress, say
from serenet.rectification.lattice import Lattice
from serenet.views.scan import SCAN_ORDER

_LEAST_GAIN = 0.1


_LEAST_LEVEL = 0.02
_MAX_RESAMPLING = 1.3
_UNEVEN = 0.1  # rms, of the mean


Frame = NDArray[np.floating]


Views = NDArray[np.float32]


def rectify_frame(
    raw: Frame,
    lattice: Lattice,
    n_num: int | None = None,
    radiometry: Frame | None = None,
    dark: Frame | None = None,
) -> Views:
    """Turn one raw frame into views.

    The frame, less the dark frame, is sampled at ``centre + (u - m) row_step / n_num + (v - m)
    column_step / n_num``, m the middle, by cubic spline interpolation, and divided by the flat
    field. On synthetic lenses of 15.4 pixels sampled 15 times the spline is off by 1 % of the
    views' spread, linear interpolation by 5 to 14 %, averages over the sample's area by more.

    Parameters
    ----------
    raw
        (Y, X), camera counts.
    lattice
        The microlenses over such frames.
    n_num
        Samples per lens side, odd; default: the odd number nearest to the pitch.
    radiometry
        (Y, X), a frame of homogeneous fluorescence; see `flat_field`.
    dark
        (Y, X), a frame without light, subtracted from both.

    Returns
    -------
    ndarray
        (n_num^2, rows, columns), float32, in counts; noise around 0 stays, also below it.

    Raises
    ------
    ValueError
        If a frame has not the lattice's shape, or n_num is even.
    """
    views = _resample(_less(raw, dark), lattice, n_num or lattice.nearest_odd)
    if radiometry is not None:
        views /= flat_field(radiometry, lattice, n_num, dark)
    return views


def flat_field(
    radiometry: Frame | None, lattice: Lattice, n_num: int | None = None, dark: Frame | None = None
) -> Views:
    """Return the relative gain of every lens in every view: rectified light that was uniform.

    Each view of the radiometry frame is divided by its own mean over the lenses. This removes
    what varies over the field (vignetting, unequal lenses), and leaves how bright the views are
    among themselves, which is part of the PSF: oblique views receive less light. Gains stop at
    0.1, so that no pixel is amplified more than tenfold, and are 1 in views with less than 2 %
    of the brightest view's light, where they could not be measured.

    Parameters
    ----------
    radiometry, lattice, n_num, dark
        As in `rectify_frame`; without a radiometry frame all gains are 1.

    Returns
    -------
    ndarray
        (n_num^2, rows, columns), float32, mean about 1 in every view.
    """
    side = n_num or lattice.nearest_odd
    if radiometry is None:
        return np.ones((side**2, lattice.rows, lattice.columns), np.float32)
    views = _resample(_less(radiometry, dark), lattice, side)
    level = views.mean(axis=(1, 2), keepdims=True)
    lit = level > max(_LEAST_LEVEL * float(level.max()), 0)
    return np.where(lit, np.maximum(views / np.where(lit, level, 1), _LEAST_GAIN), 1)


def interlace(views: Views, order: Sequence[int] = SCAN_ORDER) -> Views:
    """Merge the views of a scanned series into views on the scan's finer grid.

    Pixel ``(s i + r, s j + c)`` of a merged view was exposed at the time t with
    ``order[t] = s r + c``, s being the number of scan positions per lens side.

    Parameters
    ----------
    views
        (s^2, A, rows, columns), in the order of exposure.
    order
        The scan position at each time, a permutation of 0 .. s^2 - 1.

    Returns
    -------
    ndarray
        (A, s rows, s columns).
    """
    n_times, n_views, rows, columns = views.shape
    side = round(n_times**0.5)
    if side**2 != n_times or sorted(order) != list(range(n_times)):
        raise ValueError(f"order {tuple(order)} does not permute {n_times} = s^2 scan positions")
    by_position = views[np.argsort(order)].reshape(side, side, n_views, rows, columns)
    return by_position.transpose(2, 3, 0, 4, 1).reshape(n_views, side * rows, side * columns)


def rectify_series(
    frames: Iterator[Frame],
    lattice: Lattice,
    flat: Views,
    order: Sequence[int],
    dark: Frame | None = None,
    advance: Advance = no_progress,
) -> Iterator[Views]:
    """Yield the views of every time point, its exposures interlaced.

    Parameters
    ----------
    frames
        (Y, X) each, in the order of exposure, as many as ``order`` for each time point.
    lattice
        The microlenses.
    flat
        From `flat_field`.
    order
        The scan position at each exposure, see `interlace`.
    dark
        (Y, X), a frame without light.
    advance
        Told of every frame.
    """
    n_num = round(len(flat) ** 0.5)
    scanned = np.empty((len(order), *flat.shape), np.float32)
    for number, frame in enumerate(frames):
        t = number % len(order)
        scanned[t] = rectify_frame(frame, lattice, n_num, dark=dark) / flat
        advance()
        if t == len(order) - 1:
            yield interlace(scanned, order)


def require_fit(lattice: Lattice, microscope: LightFieldMicroscope, source: str) -> None:
    """Refuse, naming the source of the lattice, more views than pixels a lens; tell of far fewer.

    Fewer are means over several pixels, and tell as much less of depth.
    """
    n_num, pitch = microscope.n_num, min(lattice.pitch_y, lattice.pitch_x)
    if pitch * _MAX_RESAMPLING < n_num:
        raise UserError(
            f"{source}: {pitch:.2f} pixels a microlens, but the optics have n_num {n_num}; use the "
            f"optics of this microscope, or n_num: {lattice.nearest_odd}"
        )
    if pitch > _MAX_RESAMPLING * n_num:
        say(
            f"{source}: {pitch:.2f} pixels a microlens are averaged to the {n_num} views of the "
            f"optics: directions are told {pitch / n_num:.1f} times more coarsely than with n_num "
            f"{lattice.nearest_odd}"
        )


def require_other_frame(raw: Frame, radiometry: Frame, name: str) -> None:
    """Refuse a raw frame, of this name, that is the radiometry frame: its views would be uniform.

    Parameters
    ----------
    raw
        (T, Y, X) or (Y, X), camera counts.
    radiometry
        (Y, X), of the same camera.
    name
        Of the raw frames, for the message.

    Raises
    ------
    UserError
        If the first of the raw frames, or their mean, is the radiometry frame.
    """
    frames = raw.reshape(-1, *raw.shape[-2:])
    means = (frames[0], frames.mean(0, dtype=np.float64))
    if any(np.array_equal(mean.astype(np.float32), radiometry) for mean in means):
        raise UserError(
            f"{name}: the radiometry frame is this very frame, and divided by itself it holds "
            "nothing; give the frame of homogeneous fluorescence as the radiometry frame",
            page=Page.rectifying,
        )


def swapped_frames(raw: Frame, radiometry: Frame, lattice: Lattice) -> str:
    """Return a warning if raw and radiometry frame seem to be swapped, else none.

    Homogeneous light varies slowly over the lenses: recorded frames of it by up to 2 % beside a
    parabola, frames of samples by 20 to 90 %.

    Parameters
    ----------
    raw, radiometry
        (Y, X), camera counts.
    lattice
        The microlenses of both.
    """
    of_raw, of_flat = (_unevenness(frame, lattice) for frame in (raw, radiometry))
    if of_flat < max(_UNEVEN, 3 * of_raw):
        return ""
    return (
        f"the radiometry frame varies by {of_flat:.0%} from lens to lens, the raw frame by "
        f"{of_raw:.0%}: are they swapped? The radiometry frame is that of homogeneous fluorescence"
    )


def _unevenness(frame: Frame, lattice: Lattice) -> float:
    """Return how the light of the lenses varies beside a parabola, of its mean."""
    smooth = ndimage.uniform_filter(frame.astype(np.float64), round(lattice.pitch_y))
    points = np.moveaxis(lattice.centres(), -1, 0)
    light = ndimage.map_coordinates(smooth, points, order=1).ravel()
    rows, columns = (
        axis.ravel()
        for axis in np.meshgrid(*(np.linspace(-1, 1, n) for n in points.shape[1:]), indexing="ij")
    )
    terms = np.stack([rows**p * columns**q for p in range(3) for q in range(3)], axis=1)
    rest = light - terms @ np.linalg.lstsq(terms, light, rcond=None)[0]
    return float(rest.std() / max(light.mean() - np.percentile(frame, 1), 1e-9))


def _less(frame: Frame, dark: Frame | None) -> NDArray[np.float32]:
    if dark is not None and dark.shape != frame.shape:
        raise ValueError(f"dark frame {dark.shape} and frame {frame.shape} differ in size")
    values = frame.astype(np.float32)
    return values if dark is None else values - dark.astype(np.float32)


def _resample(frame: NDArray[np.float32], lattice: Lattice, n_num: int) -> Views:
    """Sample ``n_num`` x ``n_num`` points under every lens."""
    if frame.shape != lattice.frame_shape:
        raise ValueError(f"frame {frame.shape}, but the lattice is for {lattice.frame_shape}")
    if n_num % 2 == 0:
        raise ValueError(f"n_num {n_num} must be odd")
    coarser = math.sqrt(lattice.pitch_y * lattice.pitch_x) / n_num
    if coarser > _MAX_RESAMPLING:
        # As wide as a mean over the pixels of a view.
        frame = ndimage.gaussian_filter(frame, coarser / math.sqrt(12), mode="mirror")
    coefficients = ndimage.spline_filter(frame, order=3, output=np.float32, mode="mirror")
    views = np.empty((n_num, n_num, lattice.rows, lattice.columns), np.float32)
    shifts = (np.arange(n_num) - n_num // 2) / n_num
    for u, row_shift in enumerate(shifts):
        for v, column_shift in enumerate(shifts):
            points = np.moveaxis(lattice.centres(row_shift, column_shift), -1, 0)
            ndimage.map_coordinates(
                coefficients, points, views[u, v], order=3, mode="mirror", prefilter=False
            )
    return views.reshape(n_num**2, lattice.rows, lattice.columns)
