"""What mypy makes of a notebook; checked by ``nox -s typecheck``, never run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import serenet
from optics import LightFieldMicroscope
from serenet.networks.base import Network

VoxelSize = tuple[float, float, float]


def of_arrays(plain: NDArray[np.float64]) -> None:
    """Arrays from files carry their size, for mypy too."""
    microscope = serenet.load_microscope("nnum13")
    assert_type(microscope, LightFieldMicroscope)
    views = serenet.subtract_background(serenet.read_views("views.tif", microscope))
    assert_type(views, serenet.ScaledArray)
    assert_type(views.voxel_um, VoxelSize | None)
    model = serenet.load_checkpoint("demo")
    assert_type(model, Network)
    volume = serenet.reconstruct(views, model, microscope)
    assert_type(volume, serenet.ScaledArray)
    assert_type(serenet.refine(volume, views, microscope), serenet.ScaledArray)
    assert_type(serenet.compare(volume, volume).psnr_db, float)
    assert_type(serenet.draw({"cell": volume}), serenet.Picture)
    assert_type(serenet.deconvolve(plain, "psf.h5"), NDArray[Any])
    assert_type(serenet.fit_aberrations(plain, microscope), dict[str, float])


def of_tensors(views: Tensor, shift: Tensor, model: Network) -> None:
    """Tensors stay tensors."""
    assert_type(serenet.reconstruct(views, model, shift, 13 / 3), Tensor)
    assert_type(serenet.deconvolve(views, "nnum13", iterations=1), Tensor)
    assert_type(serenet.decompose(views, shift), Tensor)
    assert_type(serenet.predao(views, [84], 13, 13 / 3), Tensor)
    assert_type(serenet.correct_motion(views, model), Tensor)
    assert_type(serenet.virtual_scan(views, model), Tensor)
