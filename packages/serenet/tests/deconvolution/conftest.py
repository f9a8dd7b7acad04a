import pytest

from optics import phase_space_psf, presets, write_psf


@pytest.fixture(scope="module")
def psf(tmp_path_factory):
    """PSF file of 9 views and 3 planes of nnum13."""
    whole = presets["nnum13"]
    scope = whole.with_depths([-2.0, 0.0, 2.0]).with_views(whole.views[:9])
    path = tmp_path_factory.mktemp("psf") / "small.h5"
    write_psf(path, phase_space_psf(scope, size=65), scope)
    return path
