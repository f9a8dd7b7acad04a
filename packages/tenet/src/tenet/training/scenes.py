"""Crops of random scenes, and batches of them: imaged with the light from around, noisy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tenet.config.sections import Params, Scenes
from tenet.data.scenes import draw_scene
from tenet.microscope.model import ImagingModel, sampling
from tenet.network.jnet import hill
from tenet.training.batches import LabelBatch

_TRIES = 10
_EMPTY_SHARE = 0.1
_LARGEST_OFFSET = 0.02


@dataclass(frozen=True)
class SceneCrop:
    """A crop whose image is yet to be made.

    Attributes
    ----------
    labelx, labelz
        Structure and brightness, (1, Z, Y, X), with a margin.
    section
        Which PSF of the bank makes its image.
    a, sigma, power
        Its noise: ``a image^power + sigma``, as a standard deviation.
    offset
        Light or signal that is everywhere.
    noise_seed
        Of the noise.
    source
        What messages call it.
    """

    labelx: torch.Tensor
    labelz: torch.Tensor
    section: int
    a: float
    sigma: float
    power: float
    offset: float
    noise_seed: int
    source: str = "a scene"


class SceneCrops:
    """Crops of random scenes.

    Parameters
    ----------
    data
        Their size and number, and what is random about them.
    params
        The microscope.
    sections
        Number of PSFs to draw from.
    """

    def __init__(self, data: Scenes, params: Params, sections: int) -> None:
        self.data, self.number = data, data.I
        self._sections = sections
        scale = params.scale if params.superres else 1
        self._step = params.res_axial / scale / params.res_lateral
        (size_z, size_y, size_x), _, _ = sampling(params)
        # What shines in from further off is faint.
        self.margin = (math.ceil(size_z / 3 / scale) * scale, size_y // 2, size_x // 2)

    def draw(self, rng: np.random.Generator) -> SceneCrop:
        """Draw a crop; it is seldom empty."""
        data = self.data
        planes, rows, columns = (n + 2 * m for n, m in zip(data.cropsize, self.margin, strict=True))
        inner = tuple(slice(m, m + n) for n, m in zip(data.cropsize, self.margin, strict=True))
        for _ in range(_TRIES):
            x, z = draw_scene(rng, (planes, rows, columns), self._step, data.brightness)
            if x[inner].any() or rng.random() < _EMPTY_SHARE:
                break
        a, sigma = (
            math.exp(rng.uniform(math.log(low), math.log(high)))
            for low, high in (data.poisson_weight, data.sig_eps)
        )
        return SceneCrop(
            torch.from_numpy(x)[None],
            torch.from_numpy(z)[None],
            int(rng.integers(self._sections)),
            a,
            sigma,
            float(rng.choice([0.5, 1.0])),
            float(rng.uniform(0, _LARGEST_OFFSET)),
            int(rng.integers(2**31)),
        )


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
