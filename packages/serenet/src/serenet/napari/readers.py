"""Files as layers: view stacks, volumes and results, PSFs; each in um, and named."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
from dask import delayed

from optics import open_psf, presets
from scopekit.images.files import SUFFIXES, Selection, StackFile, is_zarr, open_stack, stack_stem
from scopekit.images.voxel import UNKNOWN, Steps
from scopekit.napari.layers import LayerData, layer_of, paths_of, values_of
from scopekit.settings import read_yaml
from serenet.napari.view_layers import views_layer

Reader = Callable[[str | Sequence[str]], list[LayerData]]

_SIDES = range(3, 100, 2)  # views per microlens side
# Of a plane each: what programs that know no views call channels.
_VIEW_COUNTS = tuple(n * n for n in _SIDES) + tuple(len(m.views) for m in presets.values())
_PSF_ENDINGS = (".h5", ".hdf5")


def reader_of_stacks(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of view stacks and volumes, ``None`` for other files."""
    files = paths_of(path)
    fitting = all(f.suffix.lower() in SUFFIXES or is_zarr(f) for f in files)
    return _read_stacks if fitting else None


def reader_of_psfs(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of PSF files, ``None`` for other files."""
    return _read_psfs if all(f.suffix.lower() in _PSF_ENDINGS for f in paths_of(path)) else None


def _read_stacks(path: str | Sequence[str]) -> list[LayerData]:
    return [stack_layer(file) for file in paths_of(path)]


def stack_layer(path: Path) -> LayerData:
    """Return a view stack, volume or camera frame as a layer, which knows its file."""
    stack = open_stack(path, Selection(n_views=_VIEW_COUNTS), single_image=True)
    has_views = _holds_views(stack)
    about: dict[str, Any] = {"kind": "views" if has_views else "volume"}
    made = path.with_name(f"{stack_stem(path)}.yaml")
    if made.is_file():
        about["settings"] = read_yaml(made)
    values, metadata = values_of(stack), {"serenet": about, "path": str(path)}
    if has_views:
        return views_layer(values, stack_stem(path), stack.steps, metadata=metadata)
    if stack.shape[-3:-2] == (1,) and values.ndim == 3:  # lies at no depth of its own
        values = values[0]
    return layer_of(values, stack_stem(path), stack.steps, metadata=metadata)


def _holds_views(stack: StackFile) -> bool:
    """Whether pages can be views: as many as a microscope has, and no distance between them."""
    return stack.steps.z_um is None and stack.shape[-3] in _VIEW_COUNTS


def _read_psfs(path: str | Sequence[str]) -> list[LayerData]:
    return [_psf_layer(file) for file in paths_of(path)]


def _psf_layer(path: Path) -> LayerData:
    """Return the PSF of all views, (A, D, H, W), read view by view when it is shown."""
    file = open_psf(path)
    first = file.read([0])
    views = [
        da.from_delayed(delayed(lambda a: file.read([a])[0].numpy())(a), first.shape[1:], "float32")
        for a in range(file.n_views)
    ]
    steps = Steps(*file.microscope.voxel_um) if file.microscope else UNKNOWN
    peak = float(first.max())
    return layer_of(
        da.stack(views),
        path.stem,
        steps,
        axes=("view", "z", "y", "x"),
        metadata={"serenet": {"kind": "psf"}},
        contrast_limits=(0.0, peak),
        gamma=0.5,
    )
