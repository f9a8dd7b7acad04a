"""Virtual scanning as a first step of other commands: the network, and one frame."""

from pathlib import Path

import torch
from torch import Tensor

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from scopekit.images.files import StackFile
from scopekit.progress import progress_bar, say
from serenet.networks.checkpoints import load_checkpoint
from serenet.networks.vsnet import VsNet
from serenet.virtual_scanning.scan import virtual_scan


def load_scan(path: Path, microscope: LightFieldMicroscope, device: torch.device) -> VsNet:
    """Read the vsnet that an option names, for a microscope's views.

    Raises
    ------
    UserError
        If it is no vsnet, or one for another number of views.
    """
    found = load_checkpoint(path, device)
    if not isinstance(found, VsNet) or found.side != microscope.n_num:
        raise UserError(
            f"`virtual_scan={path}`: not a vsnet for {microscope.n_num} x {microscope.n_num} views"
        )
    return found


def scanned(
    views: Tensor, scan: VsNet, label: str, *, half: bool, max_memory_gb: float | None
) -> Tensor:
    """Return `virtual_scan` of a frame, showing how far it is."""
    with progress_bar(f"{label} virtual scan", views.shape[-2] * views.shape[-1]) as advance:
        return virtual_scan(views, scan, half=half, max_memory_gb=max_memory_gb, advance=advance)


def warn_of_sampling(stack: StackFile, microscope: LightFieldMicroscope, *, scans: bool) -> None:
    """Warn if the pixel size says that a light field to be scanned virtually is scanned, or not.

    Parameters
    ----------
    stack
        The view stack.
    microscope
        As it is when it scans.
    scans
        Whether the views are to be scanned virtually.
    """
    scanned_um = microscope.view_pixel_um
    found_um, unscanned_um = stack.steps.x_um, scanned_um * microscope.scanning
    if found_um is None or microscope.scanning == 1:
        return
    expected_um, other_um = scanned_um, unscanned_um
    remedy = "not scanned, it seems: give `virtual_scan`"
    if scans:
        expected_um, other_um = unscanned_um, scanned_um
        remedy = "scanned already, it seems: no virtual scan is needed"
    if abs(found_um - other_um) < 0.1 * other_um:
        say(
            f"warning: {stack.path} has pixels of {found_um:.3g} um, not {expected_um:.3g}; "
            + remedy
        )
