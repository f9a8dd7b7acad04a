"""A microscope that stays as it is, to make images with: blurred, of fewer planes, noisy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optics import add_two_photon_noise
from tenet.microscope.model import ImagingModel


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
        Its noise: variance per brightness, and of the dark.
    noisy
        Whether its images have that noise.
    """

    image: ImagingModel
    section: Tensor
    a: Tensor
    sigma: Tensor
    noisy: bool = True

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
