"""Batches of images for JNet: made of labels, or recorded; blurred, noisy, displaced, masked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optics import add_two_photon_noise
from tenet.alignment.vibration import shift_slices
from tenet.data.crops import Crop
from tenet.microscope.model import ImagingModel
from tenet.network.jnet import JNet, hill


@dataclass(frozen=True)
class Microscope:
    """An imaging model that stays as it is, to make images with.

    Attributes
    ----------
    image
        The model.
    section
        (z, r) section of its PSF.
    a, sigma
        Its noise; ``None``: none.
    """

    image: ImagingModel
    section: Tensor
    a: Tensor
    sigma: Tensor
    noisy: bool = True

    @classmethod
    def of(cls, model: JNet, *, noisy: bool = True) -> "Microscope":
        """Return the microscope inside a model, as it is now."""
        training = model.image.training
        with torch.no_grad():
            section = model.image.eval().section().clone()
            noise = [torch.sigmoid(p).clone() for p in (model.a, model.sigma)]
        model.image.train(training)
        return cls(model.image, section, noise[0], noise[1], noisy)

    def record(self, labelz: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return images (B, 1, Z / scale, Y, X) in [0, 1] of brightness (B, 1, Z, Y, X)."""
        with torch.no_grad():
            images = self.image(labelz, self.section)
            if self.noisy:
                noisy = []
                for image, seed in zip(images, seeds, strict=True):
                    generator = torch.Generator(image.device).manual_seed(seed)
                    noisy.append(add_two_photon_noise(image, self.a, self.sigma, generator))
                images = torch.stack(noisy)
            recorded: Tensor = images.clamp(0, 1)
            return recorded


@dataclass(frozen=True)
class Batch:
    """What JNet is shown and compared with, on the device; volumes are (B, 1, Z, Y, X).

    Attributes
    ----------
    shown
        Input of the network: after `hill`, displaced and masked.
    image
        What was recorded.
    labelx, labelz
        Structure and brightness, where they are known.
    """

    shown: Tensor
    image: Tensor
    labelx: Tensor | None
    labelz: Tensor | None


def make_batch(crops: Sequence[Crop], device: torch.device, microscope: Microscope | None) -> Batch:
    """Bring crops to the device; make the images of labels with ``microscope``."""

    def stacked(name: str) -> Tensor | None:
        parts = [getattr(crop, name) for crop in crops]
        return None if parts[0] is None else torch.stack(parts).to(device)

    labelx, labelz, image = (stacked(name) for name in ("labelx", "labelz", "image"))
    if image is None:
        assert labelz is not None
        assert microscope is not None
        image = microscope.record(labelz, [crop.noise_seed for crop in crops])
    shown = hill(image)
    shifts = stacked("shifts")
    if shifts is not None:
        shown = shift_slices(shown, shifts)
    mask = stacked("mask")
    assert mask is not None
    return Batch(shown * mask, image, labelx, labelz)
