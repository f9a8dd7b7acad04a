"""Resolution of images by decorrelation analysis.

After Descloux, Grussmayer and Radenovic, Nature Methods 16, 918 (2019), in NumPy.

The Fourier transform of an image is correlated with its phases alone, within a disc that grows:
``d(r) = sum_{|k| < r} |I| / sqrt(sum |I|^2 sum_{|k| < r} 1)``. While the disc takes in signal d
grows; where only noise is left it falls. High-pass filters, from none to strong, bring out ever
finer signal, and the farthest maximum that they leave is the cut-off.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2
from scipy.signal.windows import tukey

Image = NDArray[np.floating]
Profile = NDArray[np.float64]

_RINGS = 400
_FILTERS = 10
# Widths of the Gaussians that high-pass filters subtract, pixels: the widest over the cut-off
# found without a filter.
_WIDEST_FILTER, _NARROWEST_FILTER = 2.0, 0.15
_LEAST_FALL = 1e-3
_SIGNIFICANT = 3.0
_WIDEST_TAPER = 20
_LEAST_SIDE = 16
# Coarser maxima come from what the faded edges leave of slow changes.
_LEAST_PERIODS = 4
# Half angle of the sector of frequencies taken to be along an axis.
_SECTOR = math.radians(22.5)


@dataclass(frozen=True)
class Spectrum:
    """Sums over rings of equal width, up to the Nyquist frequency, of Fourier transforms."""

    amplitude: Profile
    power: Profile
    count: Profile


def image_resolution(image: Image, pixel_um: float) -> float:
    """Return the resolution of an image, ``2 pixel / k_c`` with k_c in units of Nyquist, in um.

    Parameters
    ----------
    image
        (Y, X).
    pixel_um
        The pixel, um.

    Returns
    -------
    float
        In um; NaN if there is no maximum, as in noise and flat images, or only one coarser than a
        quarter of the image.
    """
    return _resolution([image], (pixel_um, pixel_um), along=None)


def volume_resolution(
    volume: Image, voxel_um: tuple[float, float, float], chosen: Image | None = None
) -> tuple[float, float]:
    """Return the lateral and the axial resolution of a volume, um.

    Lateral: the planes (Y, X) with the highest contrast, a tenth of all, analysed together. Axial:
    the same of the sections (Z, X) and (Z, Y), of their frequencies those within 22.5 degrees of
    z; the mean of the two.

    Parameters
    ----------
    volume
        (Z, Y, X).
    voxel_um
        (z, y, x) step, um.
    chosen
        A volume of the same shape whose contrast chooses planes and sections; default: ``volume``.

    Returns
    -------
    tuple of float
        (lateral, axial); NaN for what cannot be told. With less than a dozen of the finest periods
        along z the axial one comes out too small, by up to half.
    """
    z_um, y_um, x_um = voxel_um
    guide = volume if chosen is None else chosen
    planes, zx, zy = (
        [np.take(volume, i, axis=axis) for i in _most_contrast(guide, axis)] for axis in range(3)
    )
    lateral = _resolution(planes, (y_um, x_um), along=None)
    sections = [(zx, (z_um, x_um)), (zy, (z_um, y_um))]
    axial = [_resolution(images, pixel_um, along=0) for images, pixel_um in sections]
    told = [value for value in axial if not math.isnan(value)]
    return lateral, float(np.mean(told)) if told else math.nan


def _most_contrast(volume: Image, axis: int) -> NDArray[np.intp]:
    others = tuple(i for i in range(3) if i != axis)
    contrast = volume.std(axis=others)
    return np.argsort(-contrast, kind="stable")[: math.ceil(len(contrast) / 10)]


def _resolution(images: Sequence[Image], pixel_um: tuple[float, float], along: int | None) -> float:
    spectrum = _spectrum(images, pixel_um, along)
    cutoff = math.nan if spectrum is None else _cutoff(spectrum)
    side, step_um = (
        (min(images[0].shape), max(pixel_um))
        if along is None
        else (images[0].shape[along], pixel_um[along])
    )
    return 2 * step_um / cutoff if cutoff * side / 2 >= _LEAST_PERIODS else math.nan


def _spectrum(
    images: Iterable[Image], pixel_um: tuple[float, float], along: int | None
) -> Spectrum | None:
    """Sum over the images; ``None`` where there is nothing to analyse.

    Rings are those of the frequency's length up to the coarser pixel's Nyquist frequency; or, of
    frequencies in a sector about the axis ``along``, those of their component along it.
    """
    amplitude, power, count = np.zeros((3, _RINGS))
    for image in images:
        if min(image.shape) < _LEAST_SIDE or not np.ptp(image) > 0:
            continue
        y, x = (np.fft.fftfreq(n, step) for n, step in zip(image.shape, pixel_um, strict=True))
        radius = np.hypot(y[:, None], x)
        nyquist = 0.5 / (max(pixel_um) if along is None else pixel_um[along])
        inside = (radius > 0) & (x >= 0)
        if along is not None:
            towards = np.abs((y[:, None], x[None])[along])
            inside &= towards >= radius * math.cos(_SECTOR)
            radius = np.broadcast_to(towards, radius.shape)
        inside &= radius < nyquist
        ring = (radius[inside] / nyquist * _RINGS).astype(int)
        values = np.abs(fft2(_taper(image)))[inside]
        amplitude += np.bincount(ring, values, _RINGS)
        power += np.bincount(ring, values**2, _RINGS)
        count += np.bincount(ring, minlength=_RINGS)
    if power.sum() == 0:
        return None
    return Spectrum(amplitude, power, count)


def _taper(image: Image) -> Image:
    """Subtract the mean and fade the edges, whose jumps would be taken for fine detail."""
    values = image.astype(np.float64)
    values -= values.mean()
    for axis, n in enumerate(values.shape):
        share = min(2 * _WIDEST_TAPER / n, 0.25)
        values *= np.expand_dims(tukey(n, share), 1 - axis)
    return values


def _cutoff(spectrum: Spectrum) -> float:
    """Return the cut-off in units of the Nyquist frequency; NaN if there is none."""
    first = _maximum(spectrum, None)
    if first is None:
        return math.nan
    widths = np.geomspace(_WIDEST_FILTER / first[0], _NARROWEST_FILTER, _FILTERS)
    found = [(first, widths[0])]
    found += [(peak, width) for width in widths if (peak := _maximum(spectrum, width))]
    best = max(found, key=lambda item: item[0][0] * item[0][1])[1]
    step = widths[1] / widths[0]
    refined = np.geomspace(best / step, best * step, _FILTERS)
    peaks = [peak for width in refined if (peak := _maximum(spectrum, width))]
    return max(radius for radius, _ in [*peaks, *(peak for peak, _ in found)])


def _maximum(spectrum: Spectrum, width: float | None) -> tuple[float, float] | None:
    """Return (radius, d) of the local maximum of highest frequency; ``None`` if d only rises.

    The image is high-passed: a Gaussian of sigma ``width`` pixels is subtracted from it first.
    """
    radius = (np.arange(_RINGS) + 0.5) / _RINGS
    kept = 1.0 if width is None else 1 - np.exp(-((math.pi * width * radius) ** 2) / 2)
    power = (spectrum.power * kept**2).sum()
    count = spectrum.count.cumsum()
    d = (spectrum.amplitude * kept).cumsum() / np.sqrt(power * np.maximum(count, 1))
    # The amplitudes of noise scatter by 0.463 of their rms: d falls now and then by chance alone.
    least = max(_LEAST_FALL, _SIGNIFICANT * 0.463 / math.sqrt(count[-1]))
    fallen = np.flatnonzero(np.maximum.accumulate(d) - d >= least)
    if not len(fallen):
        return None
    top = int(d[: fallen[-1]].argmax())
    return (top + 1) / _RINGS, float(d[top])
