"""The microscope inside JNet: a learnable PSF, blur, and fewer planes."""

from typing import Any

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
from tenet.config_sections import Params


def analytic_section(params: Params) -> Tensor:
    """Return the (z, r) section of the PSF that the configuration describes, 0 to 1."""
    values: dict[str, Any] = params.model_dump()
    photons = values.pop("photons")
    if params.blur_mode == "gaussian":
        section: Tensor = gaussian_section(**values)[0] ** photons
        return section
    return gibson_lanni(photons=photons, **values)[0]


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
        self.size_zyx = (params.size_z, params.size_y, params.size_x)
        self.padding = blur_padding(
            self.size_zyx, res_axial=params.res_axial, res_lateral=params.res_lateral
        )
        self.scale = params.scale if params.superres else 1

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
