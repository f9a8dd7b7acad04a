"""PSFs of microscopes like the configured one, its numerical aperture larger or smaller."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from tenet.config.sections import Params
from tenet.microscope.model import analytic_section

_SECTIONS = 9


def with_na(params: Params, factor: float) -> Params:
    """Return a microscope whose numerical aperture is so many times as large.

    A Gaussian PSF gets narrower by the factor across the axis, and by its square along it.
    """
    return params.model_copy(
        update={
            "NA": params.NA * factor,
            "bet_xy": params.bet_xy / factor,
            "bet_z": params.bet_z / factor**2,
        }
    )


def section_bank(params: Params, spread: float, centre: float = 1.0) -> list[Tensor]:
    """Return (z, r) sections of PSFs, NA within a share of ``centre`` times the configured one."""
    number = _SECTIONS if spread else 1
    return sections_at(params, (centre * np.linspace(1 - spread, 1 + spread, number)).tolist())


def sections_at(params: Params, factors: Sequence[float]) -> list[Tensor]:
    """Return the sections for factors of NA; none reaches the index of the immersion."""
    largest = 0.99 * params.ni0 / params.NA
    return [analytic_section(with_na(params, min(float(f), largest))) for f in factors]
