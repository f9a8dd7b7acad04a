"""What a file is to ``serenet``: views, camera frames, a volume, a PSF, a network, a microscope."""

import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from optics import LightFieldMicroscope, presets
from optics.errors import OpticsError
from scopekit.errors import UserError
from scopekit.images.files import SUFFIXES, WHOLE_FILE, Selection, StackFile, is_zarr, open_stack
from scopekit.inspection import Report, counts_text, look_at, noise_text, sampling_text
from serenet.inspection.scanning import is_fine, scanning_text
from serenet.networks.checkpoints import load_checkpoint
from serenet.rectification.lattice import Lattice, find_lattice
from serenet.views.files import open_views
from serenet.views.microscope import load_microscope, open_psf_file

_PSF_SUFFIXES = (".h5", ".hdf5", ".mat")
_NETWORK_SUFFIXES = (".pth", ".pt")
# Relative difference of two pixel sizes that is worth a word.
_SAME_PIXEL = 0.1
_FEWEST_VIEWS = 9


def inspect(path: Path, microscope: str | None = None, selection: Selection = WHOLE_FILE) -> Report:
    """Return what a file is and which commands come next.

    Parameters
    ----------
    path
        Images of any format, a PSF, a checkpoint, or a microscope's YAML.
    microscope
        Preset or YAML file that recorded it, if it is known.
    selection
        Which channel and position are meant, where there are several.

    Raises
    ------
    UserError
        If it is none of them, damaged, or of another microscope.
    """
    kind = path.suffix.lower()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; check the path")
    if kind in (".yaml", ".yml"):
        return _of_microscope(path)
    if kind in _PSF_SUFFIXES:
        return _of_psf(path)
    if kind in _NETWORK_SUFFIXES:
        report = _of_network(path)
        if report is not None:
            return report
    if kind not in SUFFIXES and not is_zarr(path):
        raise UserError(
            f"{path}: neither images ({', '.join(SUFFIXES)}), nor a PSF, a checkpoint or a "
            "microscope's YAML"
        )
    told = None if microscope is None else load_microscope(microscope)
    return _of_images(path, microscope, told, selection)


def _of_images(
    path: Path,
    name: str | None,
    told: LightFieldMicroscope | None,
    selection: Selection,
) -> Report:
    known = {told.n_num**2, len(told.views)} if told else set()
    known |= {n for m in presets.values() for n in (m.n_num**2, len(m.views))}
    several = replace(selection, n_views=tuple(sorted(known)))
    stack = open_stack(path, several, single_image=True)
    n_pages = stack.shape[-3]
    counts = look_at(stack)
    facts = {
        "pixels": sampling_text(stack.steps),
        "counts": counts_text(counts),
        "noise": noise_text(counts),
    }
    shape = " x ".join(map(str, stack.shape[-2:]))
    times = f"{stack.n_frames} time points of " if stack.n_frames > 1 else ""
    if n_pages == 1 or (n_pages < _FEWEST_VIEWS + 1 and n_pages not in known):
        images = f"{n_pages} images" if n_pages > 1 else "one image"
        return _of_frames(stack, f"{times}{images} of {shape}", facts, name)
    side = math.isqrt(n_pages)
    fitting = [n for n, m in presets.items() if n_pages in (m.n_num**2, len(m.views))]
    if told is not None:
        open_views(path, told, several)  # says what does not fit
    elif not fitting and not (side**2 == n_pages and side % 2):
        return Report(
            f"{times}{n_pages} planes of {shape} pixels, {stack.dtype}: a volume, by the number "
            "of its planes: no microscope here has as many views",
            facts,
            (f"serenet project {_quoted(path)} --psf psf.h5 --out views.tif",),
        )
    pages = range(min(n_pages, 48))
    views = np.stack([page.astype(np.float64) for page in stack.stored(pages)])
    facts["scanned"] = scanning_text(views)
    fine = is_fine(views)
    if fine:
        facts["noise"] += "; their detail, as fine as their pixels, counts as noise here"
    facts["microscope"] = _fit(stack, n_pages, name, told, fitting, fine=fine)
    share = _share(n_pages, told, fitting)
    title = f"{times}{n_pages} views of {shape} pixels, {stack.dtype}, {share}"
    # A network knows one sampling alone.
    fits = [n for n in fitting if "DIFFERENT" not in _pixel_fit(stack, presets[n], fine=fine)]
    return Report(title, facts, tuple(_steps(path, name, told, fits)))


def _share(n_views: int, told: LightFieldMicroscope | None, fitting: list[str]) -> str:
    """Say whether views are all of a microscope, or those that are used."""
    side = math.isqrt(n_views)
    known = told or next((presets[name] for name in fitting), None)
    if known is None or n_views == known.n_num**2:
        return f"all of {side} x {side}"
    return f"those of {known.n_num} x {known.n_num} that are used"


def _fit(
    stack: StackFile,
    n_views: int,
    name: str | None,
    told: LightFieldMicroscope | None,
    fitting: list[str],
    *,
    fine: bool,
) -> str:
    if told is not None:
        return f"{name}: {_pixel_fit(stack, told, fine=fine)}"
    if not fitting:
        side = math.isqrt(n_views)
        return f"none that is built in; of your own with n_num: {side}, described in a YAML file"
    return "; ".join(
        f"as many views as {name} has; {_pixel_fit(stack, presets[name], fine=fine)}"
        for name in fitting
    )


def _pixel_fit(stack: StackFile, microscope: LightFieldMicroscope, *, fine: bool) -> str:
    """Compare the pixels, also with whether their detail is ``fine``, as scanned ones' is not."""
    found, expected = stack.steps.x_um, microscope.view_pixel_um
    if found is None:
        return f"its view pixel is {expected:.3g} um, the file tells none"
    if abs(found / expected - 1) < _SAME_PIXEL and microscope.scanning > 1 and fine:
        return (
            f"DIFFERENT, it seems: pixels of {found:.3g} um as of its scan, of views that are not "
            "scanned"
        )
    if abs(found / expected - 1) < _SAME_PIXEL:
        return f"pixels of {found:.3g} um, as expected"
    unscanned = expected * microscope.scanning
    if microscope.scanning > 1 and abs(found / unscanned - 1) < _SAME_PIXEL:
        return f"pixels of {found:.3g} um, as it has when it does not scan"
    return f"DIFFERENT: pixels of {found:.3g} um, not {expected:.3g}: another microscope, or binned"


def _steps(
    path: Path, name: str | None, told: LightFieldMicroscope | None, fits: list[str]
) -> Iterator[str]:
    file = _quoted(path)
    preset = next((n for n in presets if presets[n] == told), None) if told else None
    known = preset if told is not None else next(iter(fits), None)
    if known is not None:
        yield f"serenet reconstruct {file} --checkpoint serenet_{known} --out results"
    own = shlex.quote(name or known or "my.yaml")
    yield f"serenet deconvolve {file} --microscope {own} --out results"
    if known is None:
        yield f"serenet train my_microscope --microscope {own} --minutes 20 --out my_run"


def _of_frames(stack: StackFile, shape: str, facts: dict[str, str], name: str | None) -> Report:
    frame = next(stack.stored([0])).astype(np.float32)
    lattice: Lattice | None = None
    try:
        lattice = find_lattice(frame)
    except UserError:
        facts["lenses"] = (
            "no lattice found in this frame; a frame of homogeneous fluorescence (--radiometry) "
            "shows it. If the frame is rectified already, give --rectified N"
        )
    rectify = (
        f"serenet rectify {_quoted(stack.path)} --radiometry flat.tif --microscope "
        f"{shlex.quote(name or 'my.yaml')} --out views.tif"
    )
    title = f"{shape} pixels, {stack.dtype}: "
    if lattice is None:
        return Report(
            f"{title}camera frames, or pictures; too few pages for views", facts, (rectify,)
        )
    pitch = math.sqrt(lattice.pitch_y * lattice.pitch_x)
    facts["lenses"] = (
        f"{lattice.rows} x {lattice.columns}, {pitch:.2f} pixels apart, turned by "
        f"{lattice.rotation_deg:.2f} degrees; n_num: {lattice.nearest_odd}"
    )
    return Report(f"{title}raw camera frames of a light field", facts, (rectify,))


def _of_microscope(path: Path) -> Report:
    m = load_microscope(str(path))
    return Report(
        f"a light-field microscope, {m.magnification:g}x / {m.numerical_aperture:g}",
        {
            "views": f"{len(m.views)} of {m.n_num} x {m.n_num} used, "
            + ("not scanned" if m.scanning == 1 else f"scanned {m.scanning} x {m.scanning}"),
            "views' pixel": f"{m.view_pixel_um:.4g} um on the object",
            "volume": f"{len(m.depths_um)} planes from {m.depths_um[0]:g} to {m.depths_um[-1]:g} "
            f"um; voxels of {' x '.join(f'{n:.4g}' for n in m.voxel_um)} um (z, y, x)",
        },
        (
            f"serenet rectify raw.tif --radiometry flat.tif --microscope {_quoted(path)} "
            "--out views.tif",
            f"serenet deconvolve views.tif --microscope {_quoted(path)} --out results",
        ),
    )


def _of_psf(path: Path) -> Report:
    try:
        file = open_psf_file(path)
    except OpticsError as failure:
        raise UserError(str(failure)) from failure
    told = "" if file.microscope is None else f", {file.microscope.magnification:g}x"
    return Report(
        f"a PSF of {file.n_views} views and {file.n_depths} planes{told}",
        steps=(f"serenet deconvolve views.tif --psf {_quoted(path)} --out results",),
    )


def _of_network(path: Path) -> Report | None:
    try:
        model = load_checkpoint(path)
    except UserError:
        if path.suffix.lower() == ".pt":
            return None  # may hold images
        raise
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    optics = model.learned_optics
    facts = {"numbers": f"{n_parameters:,}"}
    if optics is not None:
        facts["microscope"] = (
            f"in it: {optics.microscope.magnification:g}x, {len(optics.microscope.views)} views, "
            f"{len(optics.microscope.depths_um)} planes"
        )
    verb = {"twnet": "correct-motion"}.get(model.method, "reconstruct")
    return Report(
        f"a network, {model.method}",
        facts,
        (f"serenet {verb} views.tif --checkpoint {_quoted(path)} --out results",),
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
