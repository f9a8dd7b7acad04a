"""``serenet reconstruct`` with a vsnet: unscanned view stacks on disk to scanned ones on disk."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from optics import LightFieldMicroscope, presets
from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, PartialVoxelSize, Selection, StackFile
from scopekit.images.target import Target
from scopekit.inputs import run_all
from scopekit.memory import return_freed_memory
from scopekit.preview import save_preview
from serenet import __version__
from serenet.networks.shipped import checkpoint_file
from serenet.networks.vsnet import VsNet
from serenet.results.contents import digests
from serenet.results.landing import Planes
from serenet.results.writer import ResultOptions, ResultWriter
from serenet.views.brightness import subtract_background
from serenet.views.files import find_stacks, open_views, read_views, warn_if_dark
from serenet.views.microscope import load_microscope
from serenet.virtual_scanning.frame import scanned, warn_of_sampling


@dataclass(frozen=True, kw_only=True)
class ScanOptions(ResultOptions):
    """Of the command's options, see ``serenet reconstruct --help``, those that apply."""

    checkpoint: Path
    microscope: str | None = None
    background: float | None = None
    selection: Selection = WHOLE_FILE
    half: bool = False
    max_memory_gb: float | None = None


def scan_files(inputs: list[Path], model: VsNet, options: ScanOptions) -> list[Path]:
    """Scan every view stack among the inputs virtually; return the paths of the finer views.

    Parameters
    ----------
    inputs
        View stacks of all views, or folders of them.
    model
        The network behind ``options.checkpoint``, in evaluation mode.
    options
        The command's.

    Raises
    ------
    UserError
        If network, microscope and views do not fit each other, or a result cannot be written.
    """
    return_freed_memory()
    microscope = _microscope(model, options)
    told = options.background
    settings = {
        "method": model.method,
        "serenet_version": __version__,
        "checkpoint": str(options.checkpoint),
        **digests(checkpoint=checkpoint_file(options.checkpoint)),
        **options.selection.settings(),
        "background": "1 % quantile" if told is None else told,
        "precision": "half" if options.half else "float32",
        "device": str(model.device),
        "dtype": options.dtype,
    }

    def draw(
        picture: Path,
        title: str,
        source: StackFile,
        planes: Callable[[], Planes],
        voxel_um: PartialVoxelSize,
    ) -> None:
        """Draw the central view of the first frame before and after."""
        whole, middle = slice(None), microscope.central_view
        recorded = source.read_window([middle], whole, whole)
        recorded = recorded.repeat(model.factor, axis=1).repeat(model.factor, axis=2)
        views: dict[str, Planes] = {
            "central view, recorded": recorded,
            title: islice(planes(), middle, middle + 1),
        }
        save_preview(picture, views, voxel_um, overwrite=True)

    writer = ResultWriter(options, model.method, settings, draw=draw)

    def solve(stack: StackFile, frame: int, target: Target) -> dict[str, Any]:
        views = read_views(stack, list(microscope.views), frame)
        views = subtract_background(views, options.background)
        warn_if_dark(stack, views)
        label = stack.frame_name(frame)
        finer = scanned(views, model, label, half=options.half, max_memory_gb=options.max_memory_gb)
        target.put(slice(len(finer)), finer.numpy())
        return {"frame": frame}

    def work(path: Path) -> Path:
        stack, _ = open_views(path, microscope, options.selection)
        warn_of_sampling(stack, microscope, scans=True)
        height, width = (model.factor * n for n in stack.shape[-2:])
        y_um, x_um = (step and step / model.factor for step in (stack.steps.y_um, stack.steps.x_um))
        shape = (model.n_views, height, width)
        return writer.write(stack, shape, (None, y_um, x_um), solve)

    sources = find_stacks(inputs, folders_are_series=options.format == "zarr")
    return run_all(writer.pending(sources), work)


def _microscope(model: VsNet, options: ScanOptions) -> LightFieldMicroscope:
    """Return the microscope with all views: the one told, learned with, or of so many views."""
    if options.microscope is not None:
        found = load_microscope(options.microscope)
    elif model.learned_optics is not None:
        found = model.learned_optics.microscope
    else:
        fitting = [m for m in presets.values() if m.n_num == model.side]
        if not fitting:
            raise UserError(
                f"{options.checkpoint}: a vsnet for {model.side} x {model.side} views, which no "
                "preset has: give the microscope, as a YAML file"
            )
        found = fitting[0]
    if found.n_num != model.side:
        raise UserError(
            f"{options.checkpoint}: a vsnet for {model.side} x {model.side} views; the microscope "
            f"has {found.n_num} x {found.n_num}"
        )
    return found.with_all_views()
