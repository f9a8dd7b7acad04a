"""The microscope found from recordings: the numerical aperture at which re-imaging fits best.

The network has learnt a prior of its own, so that aperture is biased towards the configured one.
The bias is measured by indirect inference: what the network found is imaged by microscopes of
known apertures, with the noise of the recordings, and these images are treated as recordings.
The answer is the aperture whose images give the same as the recordings did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenet.microscope.bank import sections_at
from tenet.network.jnet import JNet, hill
from tenet.network.scale import inside

FACTORS = tuple(float(f) for f in np.linspace(0.7, 1.3, 13))
_KNOWN = (0.75, 0.85, 0.95, 1.05, 1.15, 1.25)
_LEAST_DEVIATION = 1e-4


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a recording: ``a`` times the intensity, and ``sigma``."""

    a: float
    sigma: float

    def deviation(self, image: Tensor) -> Tensor:
        """Return the standard deviation at every expected intensity."""
        return self.a * image.clamp(min=0) + self.sigma


@dataclass(frozen=True)
class FoundMicroscope:
    """What was found.

    Attributes
    ----------
    factor
        The numerical aperture, as a multiple of the configured one.
    raw_factor
        The same, its bias not mended.
    noise
        Of the recordings, in their scale.
    is_certain
        Whether known apertures gave answers that rise with them; else ``factor`` is 1.
    """

    factor: float
    raw_factor: float
    noise: Noise
    is_certain: bool

    def told(self, na: float) -> str:
        """Return it in words; ``na`` is the configured aperture."""
        noise = f"noise of {self.noise.a:.3g} times the intensity, and {self.noise.sigma:.3g}"
        if self.noise.a > 1:
            noise += ": the recordings hold little but noise, or their microscope is another"
        if not self.is_certain:
            return f"numerical aperture: the recordings do not tell, {na:g} stays; {noise}"
        return f"numerical aperture {self.factor * na:.3g} fits best, {na:g} configured; {noise}"


def find_microscope(model: JNet, images: Sequence[Tensor], seed: int = 0) -> FoundMicroscope:
    """Find the numerical aperture that recordings were made with.

    Parameters
    ----------
    model
        The network, in evaluation mode.
    images
        Recordings (1, 1, Z, Y, X) in the network's scale, on its device; parts suffice.
    seed
        Of the simulated noise.
    """
    sections = [s.to(model.device) for s in sections_at(model.params, FACTORS)]
    found = [_bright(model, image) for image in images]
    raw = _best_factor(model, images, found, sections)
    (section,) = sections_at(model.params, [raw])
    noise = _noise(model, images, found, section.to(model.device))
    generator = torch.Generator(model.device).manual_seed(seed)
    answers = []
    for known in sections_at(model.params, _KNOWN):
        made = [_recorded(model, b, known.to(model.device), noise, generator) for b in found]
        answers.append(_best_factor(model, made, [_bright(model, m) for m in made], sections))
    rises = bool((np.diff(answers) > 0).all())
    factor = float(np.interp(raw, answers, _KNOWN)) if rises else 1.0
    return FoundMicroscope(factor, raw, noise, rises)


def _bright(model: JNet, image: Tensor) -> Tensor:
    """Return structure times brightness of an image."""
    with torch.no_grad():
        structure, brightness = model.enhance(hill(image))
    return structure * brightness


def _best_factor(
    model: JNet, images: Sequence[Tensor], found: Sequence[Tensor], sections: Sequence[Tensor]
) -> float:
    """Return the factor whose PSF images what was found most like the images, gains fitted."""
    curve = np.array([_left(model, images, found, section) for section in sections])
    best = min(max(int(curve.argmin()), 1), len(curve) - 2)
    fitted = np.polyfit(FACTORS[best - 1 : best + 2], curve[best - 1 : best + 2], 2)
    lowest = -fitted[1] / (2 * fitted[0]) if fitted[0] > 0 else FACTORS[int(curve.argmin())]
    return float(np.clip(lowest, FACTORS[0], FACTORS[-1]))


@torch.no_grad()
def _left(model: JNet, images: Sequence[Tensor], found: Sequence[Tensor], section: Tensor) -> float:
    """Return the power that is left of all images, a gain fitted to each."""
    total = 0.0
    for image, bright in zip(images, found, strict=True):
        inner = inside(model, image)
        seen, again = image[inner], model.image(bright, section)[inner]
        gain = (again * seen).sum() / again.square().sum().clamp(min=1e-12)
        total += float((seen - gain * again).square().sum())
    return total


@torch.no_grad()
def _noise(
    model: JNet, images: Sequence[Tensor], found: Sequence[Tensor], section: Tensor
) -> Noise:
    """Return the noise that the residuals tell: their mean size, linear in the intensity."""
    inner = [inside(model, image) for image in images]
    again = [
        model.image(b, section)[place].clamp(min=0).flatten()
        for b, place in zip(found, inner, strict=True)
    ]
    sizes = [
        (image[place].flatten() - a).abs() * np.sqrt(np.pi / 2)
        for image, place, a in zip(images, inner, again, strict=True)
    ]
    x: NDArray[np.float64] = torch.cat(again).double().cpu().numpy()
    y: NDArray[np.float64] = torch.cat(sizes).double().cpu().numpy()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / max(x.var() * x.size, 1e-12))
    slope = max(slope, 0.0)
    return Noise(slope, max(float(y.mean() - slope * x.mean()), _LEAST_DEVIATION))


@torch.no_grad()
def _recorded(
    model: JNet, bright: Tensor, section: Tensor, noise: Noise, generator: torch.Generator
) -> Tensor:
    clean = model.image(bright, section)
    normal = torch.randn(clean.shape, generator=generator, device=clean.device)
    recorded: Tensor = (clean + normal * noise.deviation(clean)).clamp(0, 1)
    return recorded
