"""Which microscope a published SeReNet training YAML is of: the nearest preset, what differs."""

import math
import reprlib
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path

from optics import LightFieldMicroscope, presets
from scopekit.errors import UserError
from serenet.training.published.schema import WITHOUT_VOLUMES, PublishedConfig
from serenet.training.settings import FAMILY
from serenet.views.psf import read_shift_table

WRAPPER_ARGS = "train_dataset.wrapper.args"
NEEDS_PSF = (*FAMILY, "rlnet")
_NNUM = f"{WRAPPER_ARGS}.Nnum"
_FROM_ALL_VIEWS = ("vcdnet", "hylfmnet", "vsnet")
_SHORT = reprlib.Repr()
_LARGEST_SHIFT_TABLE = 2**23  # bytes


def nearest_microscope(config: PublishedConfig) -> str:
    """Return the preset nearest by Nnum, then the one that agrees in most."""

    def distance(name: str) -> tuple[float, int]:
        pairs = _told_and_known(config, presets[name])
        told_nnum, known_nnum = pairs.get(_NNUM, (0, 0))
        wrong = sum(not math.isclose(*pair, rel_tol=1e-6) for pair in pairs.values())
        return abs(told_nnum - known_nnum), wrong

    return min(presets, key=distance)


def fewer_depths(config: PublishedConfig, microscope: LightFieldMicroscope) -> int | None:
    """Return how many planes are wanted, where they are not all of the microscope's."""
    if config.method in WITHOUT_VOLUMES or psf_file(config) is not None:
        return None
    wanted = next(iter(_told_depths(config).values()), len(microscope.depths_um))
    return wanted if wanted < len(microscope.depths_um) else None


def optics_notes(config: PublishedConfig, name: str) -> Iterator[str]:
    """Tell in what the file and preset ``name`` differ."""
    microscope = presets[name]
    remedy = "if yours differs, name a YAML file of your microscope at optics"
    pairs = _told_and_known(config, microscope)
    if not pairs:
        yield f"the microscope, of which nothing is told: optics {name} is assumed; {remedy}"
    for key, (value, known) in pairs.items():
        if not math.isclose(value, known, rel_tol=1e-6):
            yield f"{key} {value:g}: optics {name} has {known:g}; {remedy}"
    yield from _view_notes(config, microscope, f"optics {name} has", remedy)
    if config.method not in NEEDS_PSF and config.psf is not None:
        yield f"psf {config.psf!r}: {config.method} needs no PSF"
    elif (told := _shift_table(config)) is not None:
        yield (
            f"psf {config.psf!r}: a PSF shift, {told}, which projects nothing: the PSF is computed "
            "from the optics, or name a PSF file"
        )
    yield from _depth_notes(config, microscope, f"optics {name} has", remedy)


def _told_and_known(
    config: PublishedConfig, microscope: LightFieldMicroscope
) -> dict[str, tuple[float, float]]:
    """Return what the file tells of the microscope, beside the microscope's own values."""
    known: dict[str, float] = {
        _NNUM: microscope.n_num,
        f"{WRAPPER_ARGS}.M": microscope.magnification,
        f"{WRAPPER_ARGS}.zspacing": microscope.depth_step_um * 1e-6,
        f"{WRAPPER_ARGS}.scanning": microscope.scanning,
    }
    pairs = {key: (attrgetter(key)(config), value) for key, value in known.items()}
    of_network: dict[str, float] = {
        "inChannels": len(_views(config, microscope)),
        "angRes": microscope.n_num,
        "upscale_factor": microscope.scanning,
    }
    for key, value in of_network.items():
        pairs[f"model.args.{key}"] = (config.network_args.get(key), value)
    return {key: pair for key, pair in pairs.items() if pair[0] is not None}


def _views(config: PublishedConfig, microscope: LightFieldMicroscope) -> tuple[int, ...]:
    if config.method in _FROM_ALL_VIEWS:
        return tuple(range(microscope.n_num**2))
    return (microscope.central_view,) if config.method == "twnet" else microscope.views


def _view_notes(
    config: PublishedConfig, microscope: LightFieldMicroscope, here: str, remedy: str
) -> Iterator[str]:
    told, ours = config.input_views, _views(config, microscope)
    if told is None or told == ours:
        return
    value = f"input_views {_SHORT.repr(list(told))}"
    if ours != microscope.views:
        taken = "the central view" if config.method == "twnet" else f"all {len(ours)} views"
        yield f"{value}: {config.method} takes {taken}"
    else:
        what = "the same in another order" if set(told) == set(ours) else "other views"
        yield f"{value}: {here} {what}; {remedy}"


def psf_file(config: PublishedConfig) -> str | None:
    """Return the PSF file that the method needs, if one is named and it is no shift table."""
    wanted = config.method in NEEDS_PSF and config.psf is not None
    return config.psf if wanted and _shift_table(config) is None else None


def _shift_table(config: PublishedConfig) -> str | None:
    """Return what tells that the file named as PSF is a PSF shift; ``None`` if nothing does."""
    path = Path(config.psf or "")
    if path.is_file() and path.suffix.lower() in (".pt", ".pth", ".npy"):
        if path.stat().st_size > _LARGEST_SHIFT_TABLE:
            return None
        try:
            shape = tuple(read_shift_table(path).shape)
        except UserError:
            return None
        return f"({', '.join(map(str, shape))}) numbers"
    return "by its name" if "shift" in path.name.lower() else None


def _told_depths(config: PublishedConfig) -> dict[str, int]:
    """Return the number of planes by the keys that tell it; the first counts."""
    told = {f"{WRAPPER_ARGS}.volume_depth": config.train_dataset.wrapper.args.volume_depth}
    if config.method in ("vcdnet", "hylfmnet"):
        told["model.args.outChannels"] = config.network_args.get("outChannels")
    return {key: depth for key, depth in told.items() if depth is not None}


def _depth_notes(
    config: PublishedConfig, microscope: LightFieldMicroscope, here: str, remedy: str
) -> Iterator[str]:
    available = len(microscope.depths_um)
    taken = fewer_depths(config, microscope) or available
    for key, depth in _told_depths(config).items():
        if config.method in WITHOUT_VOLUMES:
            if depth != available:
                yield f"{key} {depth}: {config.method} makes no volumes"
        elif psf_file(config) is not None:
            yield f"{key} {depth}: the PSF file has its own depths"
        elif depth > available:
            yield f"{key} {depth}: {here} {available}; {remedy}"
        elif depth != taken:
            yield f"{key} {depth}: volumes of {taken} planes are made"
