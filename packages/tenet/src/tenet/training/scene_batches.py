"""Batches of random scenes: imaged by one of several microscopes, noisy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenet.data.scene_crops import SceneCrop
from tenet.microscope.model import ImagingModel
from tenet.network.jnet import hill
from tenet.training.batches import LabelBatch


@dataclass(frozen=True)
class SceneBatch(LabelBatch):
    """A batch of scenes.

    Attributes
    ----------
    clean
        Its images without noise, where nothing shines in from outside.
    sections
        (z, r) section of each one's PSF.
    """

    clean: Tensor
    sections: list[Tensor]


def scene_batch(
    crops: Sequence[SceneCrop],
    image: ImagingModel,
    bank: Sequence[Tensor],
    margin: tuple[int, int, int],
    *,
    with_clean: bool,
) -> SceneBatch:
    """Make the images of scenes, on the device of the PSFs.

    Parameters
    ----------
    crops
        The scenes, with their margin.
    image
        The microscope's model, which knows the sampling.
    bank
        Sections of PSFs.
    margin
        Of the crops, (z, y, x) in voxels of the result.
    with_clean
        Whether `SceneBatch.clean` is needed; else it is empty.
    """
    device = bank[0].device
    labelx = torch.stack([crop.labelx for crop in crops]).to(device)
    labelz = torch.stack([crop.labelz for crop in crops]).to(device)
    z, y, x = (slice(m, n - m) for m, n in zip(margin, labelx.shape[2:], strict=True))
    planes = slice(z.start // image.scale, z.stop // image.scale)
    sections = [bank[crop.section] for crop in crops]
    images, cleans = [], []
    for crop, bright, section in zip(crops, labelz, sections, strict=True):
        seen = image(bright[None], section)[0, :, planes, y, x].clamp(0, 1) + crop.offset
        generator = torch.Generator(device).manual_seed(crop.noise_seed)
        normal = torch.randn(seen.shape, generator=generator, device=device)
        images.append((seen + normal * (crop.a * seen**crop.power + crop.sigma)).clamp(0, 1))
        if with_clean:
            cleans.append(image(bright[None, :, z, y, x], section)[0])
    recorded = torch.stack(images)
    inner = (slice(None), slice(None), z, y, x)
    return SceneBatch(
        hill(recorded),
        recorded,
        labelx[inner].contiguous(),
        labelz[inner].contiguous(),
        torch.stack(cleans) if with_clean else recorded[:0],
        sections,
    )
