"""The PSF of one octant of views on one side of the focus: its mirror images are all the rest.

The pupil is even in both directions and the same for both, so views (u, v), (-u, v) and (v, u)
have the same PSF but for a mirror, and so have the depths z and -z.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from optics.lightfield.microscope import LightFieldMicroscope, view_coordinates
from optics.lightfield.pupil import confined_pupil, folded_window

_FINE_ENOUGH = 11  # samples a lens


class OctantPSF:
    """The PSF of views and depths without aberrations, from the images that differ.

    Parameters
    ----------
    microscope
        The microscope.
    depths_um
        Depths of the point, um, in any order; positive as the microscope says.
    views
        View indices.
    size
        Lateral support in voxels.

    Attributes
    ----------
    members
        For every octant view which of the views, by their place in ``views``, are its mirror
        images.
    orders
        Row and column (u, v), u >= v >= 0, of the octant views, counted from the central one.
    distances_um
        Distances from the focal plane, that differ, um.
    side
        Lateral support of the images: odd, so that they have a middle.
    """

    def __init__(
        self,
        microscope: LightFieldMicroscope,
        depths_um: Sequence[float],
        views: Sequence[int],
        size: int,
    ) -> None:
        if microscope.z_direction == "towards":
            depths_um = [-z for z in depths_um]
        self.side = size | 1
        self.distances_um = sorted({abs(z) for z in depths_um})
        self._microscope, self._size = microscope, size
        self._depths = depths_um
        self._views = view_coordinates(views, microscope.n_num)
        octants: dict[tuple[int, int], list[int]] = {}
        for a, (u, v) in enumerate(self._views):
            octants.setdefault((max(abs(u), abs(v)), min(abs(u), abs(v))), []).append(a)
        self.orders = list(octants)
        self.members = list(octants.values())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape (Z, side, side) of the images of an octant view, one a distance."""
        return (len(self.distances_um), self.side, self.side)

    def images(self, orders: Sequence[tuple[int, int]] | None = None) -> Iterator[Tensor]:
        """Compute the images (Z, side, side), float32, of octant views (default: all), in order."""
        refining = finer_voxels(self._microscope)
        samples = self._microscope.with_voxels_a_lens(refining * self._microscope.voxels_a_lens)
        half = refining * self.side // 2
        positions = torch.arange(-half, half + 1, dtype=torch.float64) * samples.pixel_um
        window_um = samples.microlens_pitch_um / samples.magnification
        reach_um = half * samples.pixel_um + window_um / 2
        frequency, pupil = confined_pupil(samples, self.distances_um, reach_um)
        wanted = self.orders if orders is None else orders
        windows = {
            order: folded_window(samples, positions, frequency, order)
            for order in {n for pair in wanted for n in pair}
        }
        for u, v in wanted:
            field = windows[u] @ pupil @ windows[v].T
            image = field.real.square().addcmul_(field.imag, field.imag)
            yield block_sums(image, refining)

    def mirrored(self, images: Tensor, view: int) -> Tensor:
        """Return the PSF (D, size, size) of a view from the images of its octant view.

        Parameters
        ----------
        images
            (Z, side, side), from `images`.
        view
            Which of the views, by its place.
        """
        u, v = self._views[view]
        upright = images if abs(u) >= abs(v) else images.mT
        plane = [self.distances_um.index(abs(z)) for z in self._depths]
        psf = upright.new_empty((len(plane), self._size, self._size))
        shown = upright.numpy()  # NumPy mirrors without a copy
        for to, source, z in zip(psf.numpy(), plane, self._depths, strict=True):
            # -z turns the image by 180 degrees.
            y_step = -1 if (u < 0) != (z < 0) else 1
            x_step = -1 if (v < 0) != (z < 0) else 1
            to[:] = shown[source, ::y_step, ::x_step][: self._size, : self._size]
        return psf


def finer_voxels(microscope: LightFieldMicroscope) -> int:
    """Return how many samples a voxel side a PSF is the sum over: 1, or odd for coarse voxels.

    Samples of a point cannot stand for voxels of a fifth of a lens: near the focal plane the PSF
    ends abruptly, and views would seem up to 18 % brighter or dimmer than they are.
    """
    side = microscope.voxels_a_lens
    if side >= min(_FINE_ENOUGH, microscope.n_num):
        return 1
    return 2 * math.ceil((_FINE_ENOUGH / side - 1) / 2) + 1


def block_sums(samples: Tensor, count: int) -> Tensor:
    """Return the sums (Z, h, w) over blocks of ``count`` x ``count`` samples."""
    if count == 1:
        return samples
    blocks = samples.unflatten(2, (-1, count)).unflatten(1, (-1, count))
    sums: Tensor = blocks.sum((2, 4))
    return sums
