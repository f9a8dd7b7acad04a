"""Motion correction of 3 x 3-scanned views: times weighted pixel by pixel (TW-Net).

Pixel ``(3 i + r, 3 j + c)`` of an interlaced view was exposed at the time t with
``order[t] = 3 r + c``. Where the sample moved meanwhile, exposures close to the middle one, t = 4,
take over; the network decides where.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from scopekit.errors import UserError
from scopekit.memory import MemoryBudget, memory_budget
from serenet.networks.twnet import TWNet
from serenet.views.scan import MIDDLE_TIME, SCAN_ORDER, SIDE, check_scanned, require_order

_LOW, _HIGH = 0.05, 0.99
# Cubic convolution over 4 pixels, the position's whole part being the second; a = -0.75, as
# PyTorch's bicubic resampling has it.
_SHARPNESS = -0.75
# Taps of a sub-image lie within 2 pixels of the one being enlarged.
_REACH = 2
# In one batch: within the caches, or enough to fill a GPU.
_PIXELS_AT_ONCE = {"cpu": 2**17, "cuda": 2**24}

Border = Literal["mirror", "zero"]


def sub_images(views: Tensor) -> Tensor:
    """Return the nine sub-images (A, 9, h, w) of views (A, 3 h, 3 w), number ``3 r + c``."""
    return F.pixel_unshuffle(views[:, None], SIDE)


def brightness_range(view: NDArray[np.float32]) -> tuple[float, float]:
    """Return what the network takes as 0 and as 1: the 5 % and the 99 % quantile of a view."""
    low, high = (float(q) for q in np.quantile(view, (_LOW, _HIGH)))
    if high <= low:  # next to nothing in the view
        high = float(view.max())
    return low, high if high > low else low + 1


def scale_brightness(views: Tensor, ranges: Sequence[tuple[float, float]]) -> Tensor:
    """Return views (A, H, W) on the scale of the network, see `brightness_range`; 0 or more."""
    low, high = views.new_tensor(ranges)[..., None, None].unbind(1)
    return ((views - low) / (high - low)).clamp_(min=0)


def exposures_by_distance(
    views: Tensor, order: Sequence[int] = SCAN_ORDER, border: Border = "mirror"
) -> Tensor:
    """Enlarge every exposure to the whole grid, and add those equally far from the middle time.

    ``out[d] = sum over |t - 4| = d of X_t``, where ``X_t(Y, X)`` is the sub-image (r, c) of time
    t at ``((Y - r) / 3, (X - c) / 3)``, bicubic. So ``out[0]`` is the middle exposure alone.

    Parameters
    ----------
    views
        Interlaced views (A, H, W), sides multiples of 3.
    order
        Position ``3 r + c`` of every exposure in turn.
    border
        What lies outside a sub-image: its mirror image, edge pixels doubled, or zeros.

    Returns
    -------
    Tensor
        (A, 5, H, W).
    """
    subs = sub_images(views)
    if border == "mirror":
        rows, columns = (_mirror_places(n, views.device) for n in subs.shape[-2:])
        padded = subs[..., rows[:, None], columns]
    else:
        padded = F.pad(subs, (_REACH,) * 4)
    kernel = _interpolation_kernel(order).to(views)
    return F.pixel_shuffle(F.conv2d(padded, kernel), SIDE)


def _mirror_places(size: int, device: torch.device) -> Tensor:
    """Return the pixel that stands at -2 ... size + 1 of a line of pixels mirrored at its ends."""
    place = torch.arange(-_REACH, size + _REACH, device=device) % (2 * size)
    return torch.minimum(place, 2 * size - 1 - place)


def _interpolation_kernel(order: Sequence[int]) -> Tensor:
    """Return the convolution of `exposures_by_distance`: (5 x 9, 9, 5, 5).

    Its outputs are distances times positions in a 3 x 3 block, its inputs the sub-images.
    """
    weights = np.zeros((SIDE, SIDE, 2 * _REACH + 1))  # position r, place in the block, tap
    for r in range(SIDE):
        for k in range(SIDE):
            whole, third = divmod(k - r, SIDE)
            weights[r, k, whole + 1 : whole + 5] = _cubic_weights(third / SIDE)
    kernel = np.zeros((MIDDLE_TIME + 1, SIDE, SIDE, SIDE**2, *2 * [2 * _REACH + 1]))
    for t, position in enumerate(order):
        r, c = divmod(position, SIDE)
        outer = np.einsum("ki,lj->klij", weights[r], weights[c])
        kernel[abs(t - MIDDLE_TIME), :, :, position] = outer
    return torch.from_numpy(kernel).flatten(0, 2)


def _cubic_weights(fraction: float) -> list[float]:
    a = _SHARPNESS

    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x**2 + 1

    def far(x: float) -> float:
        return ((x - 5) * x + 8) * a * x - 4 * a

    f = fraction
    return [far(1 + f), near(f), near(1 - f), far(2 - f)]


def weight_times(views: Tensor, by_distance: Tensor, mask: Tensor) -> Tensor:
    """Combine exposures: ``m X + (1 - m) sum_t w_t X_t``, ``w_t ~ m^|t - 4|``, summing to 1.

    Parameters
    ----------
    views
        Interlaced views X, (A, H, W).
    by_distance
        (A, 5, H, W), see `exposures_by_distance`.
    mask
        (A, 1, H, W), 0 to 1.

    Returns
    -------
    Tensor
        (A, H, W).
    """
    m = mask[:, 0]
    weighted, total = by_distance[:, 0], torch.ones_like(m)
    power = total
    for distance in range(1, MIDDLE_TIME + 1):
        power = power * m
        weighted = weighted + power * by_distance[:, distance]
        total = total + 2 * power
    return m * views + (1 - m) * weighted / total


def _views_at_once(model: TWNet, view_yx: tuple[int, int], available: int) -> int:
    """Return how many views of this size to take together.

    Raises
    ------
    UserError
        If the memory does not suffice for one.
    """
    pixels = view_yx[0] * view_yx[1]
    needed = 4 * model.values_per_pixel * pixels
    if needed > available:
        raise UserError(
            f"views of {view_yx[0]} x {view_yx[1]} pixels need {needed / 1e9:.2g} GB each, "
            f"{max(available, 0) / 1e9:.2g} GB are left: give a larger --max-memory-gb, close "
            "other programs, or crop the views"
        )
    device = next(model.parameters()).device
    wanted = _PIXELS_AT_ONCE.get(device.type, _PIXELS_AT_ONCE["cpu"]) // pixels
    return max(min(available // needed, wanted), 1)


def correct_motion(
    views: Tensor,
    model: torch.nn.Module,
    *,
    scan_order: Sequence[int] | None = None,
    budget: MemoryBudget | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Correct the motion of the sample during a 3 x 3 scan.

    Parameters
    ----------
    views
        Interlaced views (A, H, W) in any unit, any of the microscope's; sides multiples of 3.
    model
        A TW-Net, see `serenet.load_checkpoint`; it decides where to compute.
    scan_order
        Position ``3 row + column`` of every exposure in turn; default: 6 7 8 5 2 1 0 3 4.
    budget
        Memory to use; default: 80 % of what is free.
    advance
        Called with the number of views done, batch by batch.

    Returns
    -------
    Tensor
        (A, H, W), float32, the sample as it was at the middle exposure; where ``views`` are.

    Raises
    ------
    UserError
        If the views have a wrong shape or hold NaN or infinite values, the model is none for
        this, or the memory does not suffice.
    """
    if not isinstance(model, TWNet):
        name = getattr(model, "method", "") or type(model).__name__
        raise UserError(f"the network is a {name}; motion correction takes a twnet")
    if views.dim() != 3:
        raise UserError(f"views: shape {tuple(views.shape)}; expected (A, Y, X)")
    check_scanned(views.shape)
    if not torch.isfinite(views).all():
        raise UserError("views: NaN or infinite values; replace them by numbers first")
    order = require_order(scan_order)
    device = next(model.parameters()).device
    available = (budget or memory_budget(device)).available
    if device == views.device:
        available -= 4 * views.numel()  # the result
    step = _views_at_once(model, (views.shape[-2], views.shape[-1]), available)
    corrected = torch.empty(views.shape, device=views.device)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(views), step):
            part = views[first : first + step]
            on_device = part.to(device, torch.float32)
            ranges = [brightness_range(view.cpu().numpy()) for view in part]
            mask = model(sub_images(scale_brightness(on_device, ranges)))
            by_distance = exposures_by_distance(on_device, order)
            corrected[first : first + step] = weight_times(on_device, by_distance, mask)
            advance(len(part))
    model.train(was_training)
    return corrected
