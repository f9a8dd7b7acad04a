"""Which microscope a run is about: presets, YAML files, PSF files, and the PSF shift."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from optics import LightFieldPreset, PSFFile, open_psf, phase_space_psf, presets, psf_shift
from scopekit.checkpoints import read_checkpoint
from scopekit.errors import UserError
from scopekit.progress import say
from scopekit.settings import read_yaml

_DEPTHS_AT_ONCE = 9
_WORDING = {"missing": "missing", "extra_forbidden": "unknown key"}
_SAMPLING_FIELDS = {"depths_um", "views"}


def load_preset(name_or_file: str) -> LightFieldPreset:
    """Return the preset of that name, or the microscope described by a YAML file.

    Raises
    ------
    UserError
        Naming every wrong or missing key of the file.
    """
    if name_or_file in presets:
        return presets[name_or_file]
    path = Path(name_or_file)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(
            f"'{name_or_file}' is neither a preset ({', '.join(presets)}) nor a .yaml file"
        )
    content = read_yaml(path)
    try:
        return LightFieldPreset.model_validate(content)
    except ValidationError as failure:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in error['loc']) or 'optics'}: "
            + _WORDING.get(error["type"], error["msg"].removeprefix("Value error, "))
            for error in failure.errors()
        )
        raise UserError(f"{path}: {faults}") from failure


def preset_for_model(n_views: int) -> LightFieldPreset:
    """Return the preset whose reconstruction uses ``n_views`` views."""
    for preset in presets.values():
        if len(preset.views) == n_views:
            return preset
    raise UserError(f"no preset uses {n_views} views; give the microscope with --preset FILE.yaml")


def same_microscope(a: LightFieldPreset, b: LightFieldPreset) -> bool:
    """Tell whether two presets differ in nothing but depths and views."""
    optics_a, optics_b = (p.model_dump(exclude=_SAMPLING_FIELDS) for p in (a, b))
    return all(bool(np.isclose(optics_a[name], optics_b[name], rtol=1e-6)) for name in optics_a)


def require_same_microscope(file: PSFFile, preset: LightFieldPreset | None) -> None:
    """Raise `UserError` if a PSF file tells another microscope than the preset."""
    if preset and file.preset and not same_microscope(preset, file.preset):
        raise UserError(
            f"{file.path}: the PSF of another microscope than --preset; give only one of them"
        )


def shift_for_model(
    n_views: int | None, psf: Path | None, shift: Path | None, preset: LightFieldPreset | None
) -> tuple[Tensor, LightFieldPreset]:
    """Find the PSF shift for a network: from a PSF file, a table, or computed from the optics.

    Parameters
    ----------
    n_views
        Views that the network takes; ``None``: any number, those of the microscope.
    psf
        PSF file, or ``None``.
    shift
        Table (A, D, 2) in object pixels, ``.pt`` or ``.npy``, or ``None``.
    preset
        The microscope, or ``None`` to take it from the PSF file or the number of views.

    Returns
    -------
    tuple
        The shift (A, D, 2) in object pixels, and the microscope with the depths of the volume
        and the network's views.
    """
    if psf is not None and shift is not None:
        raise UserError("--psf and --psf-shift: give one of them")
    if n_views is None:
        n_views = len(_views_usually_used(psf, preset))
    if psf is not None:
        return _shift_from_psf(n_views, open_psf(psf), preset)
    microscope = preset or preset_for_model(n_views)
    if len(microscope.views) != n_views:
        raise UserError(
            f"the checkpoint takes {n_views} views, the microscope's preset names "
            f"{len(microscope.views)}: give the preset that it was trained for"
        )
    if shift is None:
        name = next((n for n, known in presets.items() if known == microscope), "--preset")
        say(f"no --psf given: computing the PSF shift for the optics of {name}")
        return _computed_shift(microscope), microscope
    table = read_shift_table(shift)
    if table.shape[0] != n_views:
        raise UserError(f"{shift}: {table.shape[0]} views; the checkpoint takes {n_views}")
    if table.shape[1] != len(microscope.depths_um):
        raise UserError(
            f"{shift}: {table.shape[1]} depths; the preset has {len(microscope.depths_um)}. "
            "Describe the microscope with --preset FILE.yaml"
        )
    return table, microscope


def _views_usually_used(psf: Path | None, preset: LightFieldPreset | None) -> tuple[int, ...]:
    told = preset or (open_psf(psf).preset if psf else None)
    if told is None:
        raise UserError("the network does not tell its microscope: give --preset or --psf")
    # A PSF file may hold all views.
    known = (p for p in presets.values() if preset is None and same_microscope(p, told))
    return next(known, told).views


def microscope_of_views(
    n_views: int, n_depths: int, psf: Path | None, preset: LightFieldPreset | None
) -> LightFieldPreset:
    """Find the microscope of a network that takes views and gives a fixed number of planes.

    Parameters
    ----------
    n_views, n_depths
        Of the network: all views of the microscope or those of its preset; planes.
    psf
        PSF file that tells the microscope, or ``None``.
    preset
        The microscope, or ``None``.
    """
    file = open_psf(psf) if psf else None
    if file is not None:
        require_same_microscope(file, preset)
    known = (preset, file and file.preset, *presets.values())
    fitting = [p for p in known if p and n_views in (len(p.views), p.n_num**2)]
    told = next((p for p in known[:2] if p), None)
    if not fitting or (told and told is not fitting[0]):
        raise UserError(
            f"the checkpoint takes {n_views} views"
            + (f", the microscope has {told.n_num**2} and uses {len(told.views)}" if told else "")
            + ": give the microscope that it was trained for with --preset FILE.yaml"
        )
    found = fitting[0]
    if n_depths > len(found.depths_um):
        raise UserError(
            f"the checkpoint makes {n_depths} planes, the microscope's preset has "
            f"{len(found.depths_um)}: give the preset that it was trained for"
        )
    if n_depths < len(found.depths_um):
        say(f"the network makes {n_depths} planes: taken to be those around the middle")
        found = found.with_middle_depths(n_depths)
    views = tuple(range(n_views)) if n_views == found.n_num**2 else found.views
    return found.model_copy(update={"views": views})


def _computed_shift(preset: LightFieldPreset) -> Tensor:
    """Return the PSF shift without holding the PSF of all depths."""
    depths = torch.tensor(preset.depths_um)
    # +z and -z are computed together, one from the other.
    parts = torch.split(depths.abs().argsort(stable=True), _DEPTHS_AT_ONCE)
    shift = torch.empty((len(preset.views), len(depths), 2))
    for part in parts:
        depths_um = [preset.depths_um[d] for d in part]
        psf = phase_space_psf(preset, depths_um=depths_um, size=preset.psf_size)
        shift[:, part] = psf_shift(psf)
    return shift


def _shift_from_psf(
    n_views: int, file: PSFFile, preset: LightFieldPreset | None
) -> tuple[Tensor, LightFieldPreset]:
    require_same_microscope(file, preset)
    microscope = file.preset or preset or preset_for_model(n_views)
    wanted = _views_for_network(n_views, file, preset, microscope)
    if file.n_depths != len(microscope.depths_um):
        raise UserError(
            f"{file.path}: {file.n_depths} depths; the preset has {len(microscope.depths_um)}. "
            "Describe the microscope with --preset FILE.yaml"
        )
    shift = file.read_shift(channels_of(file, wanted))
    return shift, microscope.model_copy(update={"views": wanted})


def _views_for_network(
    n_views: int, file: PSFFile, preset: LightFieldPreset | None, microscope: LightFieldPreset
) -> tuple[int, ...]:
    """Return the views in the network's channel order: --preset's, a known one's, the file's."""
    if preset is None:
        known = [p.views for p in presets.values() if same_microscope(p, microscope)]
        own = file.preset.views if file.preset else microscope.views
        for views in (*known, own):
            if len(views) == n_views and set(views) <= set(file.views or views):
                return views
        raise UserError(
            f"{file.path}: a PSF of {file.n_views} views (n_num {microscope.n_num}); the "
            f"checkpoint takes {n_views}: give the PSF of the checkpoint's microscope, or name "
            "the views with --preset FILE.yaml"
        )
    if len(preset.views) != n_views:
        raise UserError(
            f"the checkpoint takes {n_views} views, the microscope's preset names "
            f"{len(preset.views)}: give the preset that it was trained for"
        )
    return preset.views


def channels_of(file: PSFFile, wanted: tuple[int, ...]) -> list[int]:
    """Return the file's channels that are the wanted views."""
    if file.views is None and file.n_views == len(wanted):
        return list(range(file.n_views))  # the file does not tell: taken to be in order
    names = file.views or ()
    missing = [a for a in wanted if a not in names]
    if missing:
        raise UserError(
            f"{file.path}: a PSF of {file.n_views} views; of the {len(wanted)} needed, "
            f"{len(missing)} are not in it (make it with 'serenet psf')"
        )
    return [names.index(a) for a in wanted]


def read_shift_table(path: Path) -> Tensor:
    """Read a PSF shift (A, D, 2) in object pixels from ``.npy`` or ``.pt``."""
    if path.suffix.lower() == ".npy":
        try:
            content: Any = torch.from_numpy(np.load(path, allow_pickle=False).astype(np.float32))
        except FileNotFoundError as failure:
            raise UserError(f"{path}: no such file; check the path") from failure
        except (ValueError, OSError, EOFError, TypeError) as failure:
            raise UserError(f"{path}: not a NumPy array file, or damaged") from failure
    else:
        content = read_checkpoint(path)
    if not isinstance(content, Tensor) or content.dim() != 3 or content.shape[2] != 2:
        found = tuple(content.shape) if isinstance(content, Tensor) else type(content).__name__
        raise UserError(f"{path}: expected a PSF shift (views, depths, 2), found {found}")
    table: Tensor = content.float()
    if not torch.isfinite(table).all():
        raise UserError(f"{path}: the PSF shift holds NaN or infinite values")
    return table
