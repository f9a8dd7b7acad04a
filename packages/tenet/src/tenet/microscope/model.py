"""The microscope inside JNet: a learnable PSF, blur, and fewer planes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from optics import (
    NeuralFit,
    NeuralPSF,
    blur_and_downsample,
    blur_padding,
    fit_neural_psf,
    gaussian_section,
    gibson_lanni,
    section_to_kernel,
)
from tenet.config.sections import Params


def analytic_section(params: Params) -> Tensor:
    """Return the (z, r) section of the PSF that the configuration describes, 0 to 1."""
    values: dict[str, Any] = params.model_dump()
    photons = values.pop("photons")
    del values["any_scale"]  # of the network
    if params.blur_mode == "gaussian":
        section: Tensor = gaussian_section(**values)[0] ** photons
        return section
    return gibson_lanni(photons=photons, **values)[0]


class Sampling(NamedTuple):
    """How the microscope samples a volume as fine as the result.

    Attributes
    ----------
    size_zyx
        Of the blur's kernel, in voxels of the result.
    scale
        Every ``scale``-th plane is recorded.
    padding
        How far the kernel starts before the place it blurs for, in (z, y, x).
    """

    size_zyx: tuple[int, int, int]
    scale: int
    padding: tuple[int, int, int]


def sampling(params: Params) -> Sampling:
    """Return how the microscope of a configuration samples.

    Without axial refinement the result's planes are the recorded ones, and the kernel has a plane
    for each row of the PSF's section; ``size_z`` counts finer planes in any case.
    """
    y, x = params.size_y, params.size_x
    if not params.superres:
        size = (params.size_z // params.scale, y, x)
        return Sampling(size, 1, (size[0] // 2, y // 2, x // 2))
    size = (params.size_z, y, x)
    padding = blur_padding(size, res_axial=params.res_axial, res_lateral=params.res_lateral)
    return Sampling(size, params.scale, padding)


class Blur(nn.Module):
    """The neural PSF, as published checkpoints name it."""

    def __init__(self, rows: int, columns: int, mid: int) -> None:
        super().__init__()
        self.neuripsf = NeuralPSF(rows, columns, mid)


class ImagingModel(nn.Module):
    """From structure times brightness to the expected image.

    Parameters
    ----------
    params
        The microscope.
    """

    analytic: Tensor

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.register_buffer("analytic", analytic_section(params), persistent=False)
        # Part of published checkpoints; nothing uses it.
        self.log_ez0 = nn.Parameter(
            torch.tensor(params.mu_z + params.sig_z**2 / 2), requires_grad=False
        )
        rows, columns = self.analytic.shape
        self.blur = Blur(rows, columns, params.mid)
        self.size_zyx, self.scale, self.padding = sampling(params)

    def section(self) -> Tensor:
        """Return the (z, r) section of the neural PSF."""
        section: Tensor = self.blur.neuripsf()
        return section

    def forward(self, bright: Tensor, section: Tensor | None = None) -> Tensor:
        """Return the expected image (B, 1, D / scale, H, W), not clamped, of (B, 1, D, H, W).

        ``section`` stands in for the neural PSF's where it is given.
        """
        kernel = section_to_kernel(self.section() if section is None else section, self.size_zyx)
        return blur_and_downsample(bright, kernel, self.scale, self.padding)

    def fit(self, target: float, seed: int) -> NeuralFit:
        """Make the neural PSF equal to the analytic one; see `optics.fit_neural_psf`."""
        return fit_neural_psf(self.blur.neuripsf, self.analytic, target=target, seed=seed)
