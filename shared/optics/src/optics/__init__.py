"""Differentiable optics of light-field and two-photon microscopes.

Units are micrometres, volumes are (Z, Y, X), views are (A, Y, X).
"""

from optics.convolution import KernelOperator
from optics.deconvolution import (
    Operator,
    Subset,
    poisson_deviance,
    richardson_lucy,
    richardson_lucy_step,
)
from optics.errors import OpticsError
from optics.lightfield.band_limited import BandLimitedOperator
from optics.lightfield.microscope import LightFieldMicroscope, presets
from optics.lightfield.projection import LightFieldOperator
from optics.lightfield.psf import phase_space_psf, psf_shift
from optics.lightfield.psf_files import PSFFile, open_psf, write_psf
from optics.lightfield.recording import RecordedLightField
from optics.lightfield.resolution import Sieve, lateral_band_limit, volume_sieve
from optics.lightfield.sampling import sample_views, sampled_size, volume_size
from optics.noise import NLLMPG, add_camera_noise
from optics.two_photon.blur import blur_and_downsample, blur_padding, section_to_kernel
from optics.two_photon.neural_psf import NeuralFit, NeuralPSF, fit_neural_psf
from optics.two_photon.noise import TwoPhotonNLL, add_two_photon_noise
from optics.two_photon.operator import TwoPhotonOperator
from optics.two_photon.psf import gaussian_section, gibson_lanni

__version__ = "0.1.0"

__all__ = [
    "NLLMPG",
    "BandLimitedOperator",
    "KernelOperator",
    "LightFieldMicroscope",
    "LightFieldOperator",
    "NeuralFit",
    "NeuralPSF",
    "Operator",
    "OpticsError",
    "PSFFile",
    "RecordedLightField",
    "Sieve",
    "Subset",
    "TwoPhotonNLL",
    "TwoPhotonOperator",
    "add_camera_noise",
    "add_two_photon_noise",
    "blur_and_downsample",
    "blur_padding",
    "fit_neural_psf",
    "gaussian_section",
    "gibson_lanni",
    "lateral_band_limit",
    "open_psf",
    "phase_space_psf",
    "poisson_deviance",
    "presets",
    "psf_shift",
    "richardson_lucy",
    "richardson_lucy_step",
    "sample_views",
    "sampled_size",
    "section_to_kernel",
    "volume_sieve",
    "volume_size",
    "write_psf",
]
