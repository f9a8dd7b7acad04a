"""What a file is, in plain words: its stack's sampling, counts, saturation, noise."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import Page, UserError
from scopekit.images.stack import StackFile
from scopekit.images.voxel import Steps

# Enough to judge by; whole series would take minutes.
_MOST_PAGES = 64
# Full wells of cameras, and of files that hold fewer bits.
_FULL_SCALES = tuple(2**bits - 1 for bits in (8, 10, 11, 12, 13, 14, 15, 16))
# Of all values; a single brightest voxel is no saturation.
_SATURATED_SHARE = 2e-5
_MAD_TO_RMS = 1.4826
_BRIGHT_SHARE = 0.01
# The brightest hundredth of noise alone has 1.3.
_LEAST_SIGNAL = 2.0


@dataclass(frozen=True)
class Report:
    """What a file is, in words.

    Attributes
    ----------
    title
        What it is.
    facts
        Heading to text.
    steps
        Commands that come next.
    """

    title: str
    facts: dict[str, str] = field(default_factory=dict)
    steps: tuple[str, ...] = ()

    def lines(self, path: Path) -> Iterator[str]:
        """Yield the lines that are printed."""
        yield f"{path}: {self.title}"
        headings = [*self.facts, *("or" if number else "next" for number in range(len(self.steps)))]
        width = max(map(len, headings), default=0) + 1
        for heading, text in zip(headings, [*self.facts.values(), *self.steps], strict=True):
            yield f"  {heading + ':':<{width}} {text}"


@dataclass(frozen=True)
class Counts:
    """The values of some pages of a stack.

    Attributes
    ----------
    least, median, largest
        Of the values.
    at_largest
        Share of them that equal the largest.
    full_scale
        The largest that their camera can record, where the values or the file tell it.
    dark_noise
        Standard deviation of white noise in the darker half of the image.
    signal_to_noise
        Mean of the brightest hundredth above the median, in standard deviations of its own noise;
        detail as fine as a pixel counts as noise, so it may be more. 0 where nothing stands out.
    pages_seen, pages
        How many were looked at, and how many there are.
    """

    least: float
    median: float
    largest: float
    at_largest: float
    full_scale: float | None
    dark_noise: float
    signal_to_noise: float
    pages_seen: int
    pages: int

    @property
    def is_saturated(self) -> bool:
        """Whether more values than chance allows lie at the end of the camera's range."""
        return self.full_scale is not None and self.at_largest > _SATURATED_SHARE


def look_at(stack: StackFile, frame: int = 0) -> Counts:
    """Return what the values of one time point are like.

    Parameters
    ----------
    stack
        The file; at most 64 of its pages, evenly spread, are read.
    frame
        The time point.

    Raises
    ------
    UserError
        If the file is damaged, holds NaN or infinite values, or is constant.

    Notes
    -----
    Noise is that of ``(a - b - c + d) / 2`` over squares of 2 x 2 pixels: white noise keeps its
    standard deviation there, what varies smoothly vanishes. The median of its absolute value
    passes over edges and points.
    """
    pages = stack.shape[-3]
    seen = sorted({round(n) for n in np.linspace(0, pages - 1, min(pages, _MOST_PAGES))})
    values = np.stack([page.astype(np.float64) for page in stack.stored(seen, frame=frame)])
    if not np.isfinite(values).all():
        raise UserError(
            f"{stack.frame_name(frame)}: NaN or infinite values; replace them by numbers first",
            page=Page.files,
        )
    least, largest = float(values.min()), float(values.max())
    if least == largest:
        raise UserError(
            f"{stack.frame_name(frame)}: constant, every value is {least:g}: there is nothing in "
            "it",
            page=Page.files,
        )
    median = float(np.median(values))
    local, noise = _noise(values)
    dark = noise[local <= np.median(local)]
    bright = local >= np.quantile(local, 1 - _BRIGHT_SHARE)
    bright_noise = _rms(noise[bright])
    height = float(local[bright].mean()) - median
    return Counts(
        least=least,
        median=median,
        largest=largest,
        at_largest=float((values == largest).mean()),
        full_scale=_full_scale(stack, largest),
        dark_noise=_rms(dark),
        signal_to_noise=max(height / bright_noise, 0.0) if bright_noise else 0.0,
        pages_seen=len(seen),
        pages=pages,
    )


def _full_scale(stack: StackFile, largest: float) -> float | None:
    if stack.full_scale is not None:
        return stack.full_scale if largest >= stack.full_scale else None
    if not np.issubdtype(stack.dtype, np.integer):
        return None
    return largest if largest in _FULL_SCALES else None


def _noise(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean and the mixed difference of every square of 2 x 2 pixels."""
    rows, columns = (n // 2 * 2 for n in values.shape[-2:])
    a, b = values[:, :rows:2, :columns:2], values[:, :rows:2, 1:columns:2]
    c, d = values[:, 1:rows:2, :columns:2], values[:, 1:rows:2, 1:columns:2]
    return (a + b + c + d) / 4, (a - b - c + d) / 2


def _rms(noise: NDArray[np.float64]) -> float:
    if noise.size == 0:
        return 0.0
    spread = _MAD_TO_RMS * float(np.median(np.abs(noise)))
    # Of few counts, most squares have none.
    return spread or float(noise.std())


def sampling_text(steps: Steps) -> str:
    """Say which step a file tells along each axis."""
    told = {"z": steps.z_um, "y": steps.y_um, "x": steps.x_um}
    known = [f"{axis} {step:.4g} um" for axis, step in told.items() if step is not None]
    if not known:
        return "the file tells no voxel size"
    unknown = [axis for axis, step in told.items() if step is None]
    untold = f"; nothing along {' and '.join(unknown)}" if unknown else ""
    return f"{', '.join(known)} ({steps.source}){untold}"


def counts_text(counts: Counts) -> str:
    """Say how large the values are, and whether they are saturated."""
    some = "" if counts.pages_seen == counts.pages else f", in {counts.pages_seen} of its pages"
    text = f"{counts.least:.5g} to {counts.largest:.5g}, median {counts.median:.5g}{some}"
    if counts.is_saturated:
        assert counts.full_scale is not None
        return (
            f"{text}; SATURATED: {100 * counts.at_largest:.2g} % of the values are at "
            f"{counts.full_scale:g}, the end of the camera's range: record with less light"
        )
    return f"{text}; not saturated"


def noise_text(counts: Counts) -> str:
    """Say how much noise there is, and how many photons that would be."""
    dark = f"{counts.dark_noise:.3g} rms where it is dark"
    ratio = counts.signal_to_noise
    if ratio < _LEAST_SIGNAL:
        return f"{dark}; the brightest parts hardly stand out of it"
    photons = float(f"{ratio**2:.1g}") if math.isfinite(ratio) else 0.0
    return (
        f"{dark}; the brightest parts are {ratio:.2g} times their noise, as of {photons:g} photons "
        "or more a pixel"
    )
