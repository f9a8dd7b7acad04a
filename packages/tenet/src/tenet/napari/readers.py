"""Recordings and results of ``tenet enhance`` as layers: in um, labels with their table."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scopekit.images.files import SUFFIXES, is_zarr, open_stack, stack_stem
from scopekit.images.readers.zarr import images_inside, labels_inside
from scopekit.napari.layers import LayerData, layer_of, paths_of, values_of

Reader = Callable[[str | Sequence[str]], list[LayerData]]
_MASK, _LABELS, _TABLE = "_tenet_mask", "_tenet_labels", "_tenet_objects.csv"


def reader_of_stacks(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of recordings and results, ``None`` for other files."""
    files = paths_of(path)
    fitting = all(f.suffix.lower() in SUFFIXES or is_zarr(f) for f in files)
    return _read_stacks if fitting else None


def _read_stacks(path: str | Sequence[str]) -> list[LayerData]:
    return [layer for file in paths_of(path) for layer in _layers(file)]


def _layers(path: Path) -> list[LayerData]:
    """Return the layer of a file, or those of all images and labels of an OME-Zarr store."""
    images = images_inside(path) if is_zarr(path) else [path]
    if images == [path]:
        return [_layer(path)]
    layers = []
    for image in images:
        stack = open_stack(image)
        layers.append(layer_of(values_of(stack), f"{stack_stem(path)}_{image.name}", stack.steps))
        layers += [_labels(labels, path) for labels in labels_inside(image)]
    return layers


def _labels(labels: Path, store: Path) -> LayerData:
    stack, name = open_stack(labels), stack_stem(store)
    table = store.with_name(f"{name}_objects.csv")
    more: dict[str, Any] = {"features": read_features(table)} if table.is_file() else {}
    values = values_of(stack).astype(np.int32)
    return layer_of(values, f"{name}_{labels.name}", stack.steps, kind="labels", **more)


def _layer(path: Path) -> LayerData:
    stack, name = open_stack(path), stack_stem(path)
    values = values_of(stack)
    if not name.endswith((_LABELS, _MASK)):
        return layer_of(values, name, stack.steps)
    more: dict[str, Any] = {}
    table = path.with_name(name.removesuffix(_LABELS) + _TABLE)
    if name.endswith(_LABELS) and table.is_file():
        more["features"] = read_features(table)
    return layer_of(values.astype(np.int32), name, stack.steps, kind="labels", **more)


def read_features(table: Path) -> dict[str, NDArray[Any]]:
    """Return the columns of a table of objects, as a labels layer takes them.

    Parameters
    ----------
    table
        ``NAME_tenet_objects.csv``. What is empty there is NaN.
    """
    with table.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    columns: dict[str, NDArray[Any]] = {}
    for name in rows[0] if rows else ():
        texts = [row[name] for row in rows]
        if name == "label":
            columns["index"] = np.array(texts, dtype=np.int64)
        elif name == "touches_border":
            columns[name] = np.array([text == "True" for text in texts])
        else:
            columns[name] = np.array([float(text) if text else np.nan for text in texts])
    return columns
