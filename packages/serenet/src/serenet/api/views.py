"""From views to views: what is done to them before a volume is made of them."""

from collections.abc import Sequence

import numpy as np
import torch

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.progress import OnProgress, counted, say
from serenet.aberrations import correlation, fit
from serenet.api.arrays import AnyArray, Array, as_tensor, like, voxel_of
from serenet.motion.correction import correct_motion as correct_tensor
from serenet.networks.base import Network
from serenet.networks.vsnet import VsNet
from serenet.rectification.lattice import Lattice, find_lattice
from serenet.rectification.resampling import (
    flat_field,
    rectify_series,
    require_fit,
    require_other_frame,
    swapped_frames,
)
from serenet.views import brightness, refocusing
from serenet.views.scan import require_order
from serenet.virtual_scanning.scan import virtual_scan as scan_tensor


def subtract_background(views: Array, background: float | None = None) -> Array:
    """Subtract one value from all views and set what falls below zero to zero.

    Parameters
    ----------
    views
        (A, h, w), in counts.
    background
        The value, counts; default: the 1 % quantile over all views and pixels.

    Returns
    -------
    array or tensor
        (A, h, w), float32, not negative.

    Raises
    ------
    UserError
        If the background is no number.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> serenet.subtract_background(np.array([[[90.0, 130.0]]]), 100).tolist()
    [[[0.0, 30.0]]]
    """
    subtracted = brightness.subtract_background(as_tensor(views), background)
    return like(subtracted, views, voxel_of(views))


def decompose(views: Array, shift: AnyArray) -> Array:
    """Refocus views digitally: shift every view to every depth (depth decomposition).

    ``out[a, z](p) = view_a(p + shift[a, z])``, bilinear, zero outside.

    Parameters
    ----------
    views
        (A, h, w).
    shift
        (A, D, 2): row and column shift in view pixels. The PSF's shift is in object pixels;
        divide it by the lateral scale ``n_num / scanning``.

    Returns
    -------
    array or tensor
        (A, D, h, w).

    Raises
    ------
    UserError
        If the shapes do not fit.

    References
    ----------
    The input of SeReNet: Lu et al., Nature Methods (2025).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> views = np.arange(6.0).reshape(1, 2, 3)
    >>> serenet.decompose(views, np.array([[[0, 0], [0, 1]]])).tolist()
    [[[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], [[1.0, 2.0, 0.0], [4.0, 5.0, 0.0]]]]
    """
    given, table = as_tensor(views), as_tensor(shift)
    if given.dim() != 3 or table.dim() != 3 or table.shape[::2] != (len(given), 2):
        raise UserError(
            f"decompose: views {tuple(given.shape)}, shift {tuple(table.shape)}; give (A, h, w) "
            "and (A, D, 2)"
        )
    return like(refocusing.decompose(given, table.to(given.device)), views, None)


def predao(
    views: Array,
    view_indices: Sequence[int],
    n_num: int,
    scale: float,
    *,
    subpixel: bool = False,
) -> Array:
    """Align views with the central one: digital adaptive optics by correlation, as published.

    The maximum of each view's correlation with the central view is taken for its shift, the part
    that grows with the view's coordinates for defocus, and the rest is undone (bicubic, zero
    outside, overshoot below zero set to zero). It is for thin objects. Where they fill the depth
    each view agrees best at another depth, and this does harm: see `serenet.fit_aberrations`.

    Parameters
    ----------
    views
        (A, h, w), background subtracted, sides of at least 8.
    view_indices
        Index ``u * n_num + v`` of every view; the central one, ``(n_num^2 - 1) // 2``, among them.
    n_num
        Views per microlens side.
    scale
        Object pixels per view pixel, ``n_num / scanning``.
    subpixel
        Whether shifts are estimated to fractions of an object pixel; as published: whole ones.

    Returns
    -------
    array or tensor
        (A, h, w), float32, aligned, not negative.

    Raises
    ------
    UserError
        If the central view is missing, the shape does not fit, or values are not finite.

    References
    ----------
    preDAO: Lu et al., Nature Methods (2025).

    Examples
    --------
    >>> import numpy as np, serenet
    >>> microscope = serenet.load_microscope("nnum13")
    >>> views = np.random.default_rng(0).poisson(50, (49, 12, 12))
    >>> serenet.predao(views, microscope.views, 13, microscope.lateral_scale).shape
    (49, 12, 12)
    """
    aligned = correlation.predao(as_tensor(views), view_indices, n_num, scale, subpixel=subpixel)
    return like(aligned, views, voxel_of(views))


def fit_aberrations(views: AnyArray, microscope: LightFieldMicroscope) -> dict[str, float]:
    """Find the aberrations whose removal makes the refocused views agree best at all depths.

    Objects may be thick. What the scene does not tell is left at 0.

    Parameters
    ----------
    views
        (A, h, w), the microscope's views, background subtracted, sides of at least 16.
    microscope
        Its optics; objects are looked for around its depths too.

    Returns
    -------
    dict
        ``astigmatism``, ``oblique_astigmatism``, ``coma_x``, ``coma_y``, ``trefoil_x``,
        ``trefoil_y``, each in waves rms, up to 1.

    Raises
    ------
    UserError
        If shapes do not fit, the views are too small, or values are not finite.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> views = np.zeros((49, 16, 16))
    >>> serenet.fit_aberrations(views, serenet.load_microscope("nnum13"))["coma_x"]
    0.0
    """
    return fit.fit_aberrations(as_tensor(views), microscope)


def correct_motion(
    views: Array,
    model: Network,
    *,
    scan_order: Sequence[int] | None = None,
    max_memory_gb: float | None = None,
) -> Array:
    """Correct the motion of the sample during a 3 x 3 scan (TW-Net).

    Parameters
    ----------
    views
        Interlaced views (A, H, W) in any unit, any of the microscope's; sides multiples of 3.
    model
        A TW-Net, see `serenet.load_checkpoint`; it decides where to compute.
    scan_order
        Position ``3 row + column`` of every exposure in turn; default: 6 7 8 5 2 1 0 3 4.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory.

    Returns
    -------
    array or tensor
        (A, H, W), float32, the sample as it was at the middle exposure.

    Raises
    ------
    UserError
        If the views have a wrong shape or hold NaN or infinite values, the model is none for
        this, or the memory does not suffice.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> views = np.random.default_rng(0).poisson(50, (2, 12, 12))
    >>> serenet.correct_motion(views, serenet.load_checkpoint("demo_twnet")).shape
    (2, 12, 12)
    """
    corrected = correct_tensor(
        as_tensor(views), model, scan_order=scan_order, max_memory_gb=max_memory_gb
    )
    return like(corrected, views, voxel_of(views))


def virtual_scan(
    views: Array,
    model: Network,
    *,
    half: bool = False,
    max_memory_gb: float | None = None,
) -> Array:
    """Return the views of an unscanned light field as if it had been scanned (VsNet).

    Parameters
    ----------
    views
        (A, h, w), all views of the microscope, background subtracted.
    model
        A VsNet, see `serenet.load_checkpoint`; it decides where to compute.
    half
        Compute in half precision: bfloat16 on the CPU, float16 on CUDA.
    max_memory_gb
        Budget in GB; default: 80 % of the free memory. Tiles give the same views.

    Returns
    -------
    array or tensor
        (A, 3 h, 3 w), float32, not negative.

    Raises
    ------
    UserError
        If the views are not all, the model is none for this, or the memory does not suffice.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> model = serenet.build_model("vsnet", angRes=5, K=1, n_block=1, channels=8).eval()
    >>> serenet.virtual_scan(np.ones((25, 6, 6)), model).shape
    (25, 18, 18)
    """
    if not isinstance(model, VsNet):
        name = model.method or type(model).__name__
        raise UserError(f"the network is a {name}; virtual scanning takes a vsnet")
    finer = scan_tensor(as_tensor(views), model, half=half, max_memory_gb=max_memory_gb)
    size = voxel_of(views)
    voxel_um = size and (size[0], size[1] / model.factor, size[2] / model.factor)
    return like(finer, views, voxel_um)


def rectify(
    raw: Array,
    radiometry: AnyArray | None,
    microscope: LightFieldMicroscope,
    *,
    dark: AnyArray | None = None,
    scan_order: Sequence[int] | None = None,
    lattice: Lattice | None = None,
    on_progress: OnProgress | None = None,
) -> Array:
    """Turn raw camera frames into views: find the microlenses, flat-field, resample.

    Parameters
    ----------
    raw
        (Y, X), or (T, Y, X) in the order of exposure, camera counts. Of a scanned microscope
        ``scanning^2`` frames, or a multiple of that, are interlaced.
    radiometry
        (Y, X), a frame of homogeneous fluorescence; with ``None`` nothing is divided by a flat
        field, and the microlenses are looked for in the frames unless there is a lattice.
    microscope
        Its number of views and of scan positions.
    dark
        (Y, X), a frame without light, subtracted from both.
    scan_order
        Position ``scanning row + column`` of every exposure in turn; default for 3 x 3
        positions: 6 7 8 5 2 1 0 3 4.
    lattice
        The microlenses, where they are known; default: found in ``radiometry``.
    on_progress
        Told the number of frames done, and of all; what it raises ends the work.

    Returns
    -------
    array or tensor
        (n_num^2, rows, columns), float32, in counts: all views; (T, n_num^2, rows, columns) of
        several time points. Noise around 0 stays, also below it.

    Raises
    ------
    UserError
        If the radiometry frame shows no lattice, or one that does not fit the microscope, or the
        frames no whole scan, or are the radiometry frame itself.

    Examples
    --------
    >>> import numpy as np, serenet
    >>> microscope = serenet.load_microscope("nnum13")
    >>> y, x = np.mgrid[:160, :160]
    >>> light = 100 * np.cos(np.pi * (y - 8) / 13) ** 2 * np.cos(np.pi * (x - 8) / 13) ** 2
    >>> serenet.rectify(np.stack([light * (y > 80)] * 9), light, microscope).shape
    (169, 36, 36)
    """
    frames = as_tensor(raw).detach().cpu().numpy()
    frames = frames[None] if frames.ndim == 2 else frames
    bright = None if radiometry is None else as_tensor(radiometry).detach().cpu().numpy()
    black = None if dark is None else as_tensor(dark).detach().cpu().numpy()
    n_scan = microscope.scanning**2
    if frames.ndim != 3 or len(frames) == 0 or len(frames) % n_scan:
        raise UserError(
            f"raw: shape {tuple(raw.shape)}; give (T, Y, X) with T a multiple of the {n_scan} "
            "scan positions"
        )
    lit = frames.mean(0) if bright is None else bright
    for name, frame in (("raw", frames), ("dark", black)):
        if frame is not None and frame.shape[-2:] != lit.shape:
            raise UserError(
                f"{name}: frames of {frame.shape[-2:]}, the radiometry frame has {lit.shape}"
            )
    if bright is not None:
        require_other_frame(frames, bright, "raw")
    order = require_order(scan_order, microscope.scanning)
    if lattice is None:
        lattice = find_lattice(lit if black is None else lit - black)
    elif lattice.frame_shape != lit.shape:
        raise UserError(
            f"lattice: of frames of {lattice.frame_shape}, the radiometry frame has {lit.shape}"
        )
    require_fit(lattice, microscope, "radiometry")
    doubt = "" if bright is None else swapped_frames(frames[0], bright, lattice)
    if doubt:
        say(f"warning: {doubt}")
    flat = flat_field(bright, lattice, microscope.n_num, black)
    advance = counted(on_progress, len(frames))
    times = list(rectify_series(iter(frames), lattice, flat, order, black, advance))
    views = torch.from_numpy(np.stack(times) if len(times) > 1 else times[0])
    pixel_um = microscope.view_pixel_um
    return like(views, raw, (1.0, pixel_um, pixel_um))
