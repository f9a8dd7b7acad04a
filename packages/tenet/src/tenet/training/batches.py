"""Batches for JNet: of recordings, or of labels that are imaged; displaced, masked."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import align
from tenet.alignment.vibration import shift_slices
from tenet.data.crops import Crop, LabelCrop, RecordingCrop
from tenet.microscope.imaging import Microscope
from tenet.network.jnet import hill


@dataclass(frozen=True)
class Batch:
    """What JNet is shown and compared with, on the device; volumes are (B, 1, Z, Y, X).

    Attributes
    ----------
    shown
        Input of the network: after `hill`, displaced and masked.
    image
        What was recorded.
    """

    shown: Tensor
    image: Tensor


@dataclass(frozen=True)
class LabelBatch(Batch):
    """A batch whose structure (``labelx``) and brightness (``labelz``) are known."""

    labelx: Tensor
    labelz: Tensor


def recorded_batch(crops: Sequence[RecordingCrop], device: torch.device) -> Batch:
    """Bring crops of recordings to the device."""
    image = torch.stack([crop.image for crop in crops]).to(device)
    return Batch(_shown(image, crops), image)


def label_batch(
    crops: Sequence[LabelCrop],
    device: torch.device,
    microscope: Microscope,
    alignment: DeepAlignNet | None = None,
) -> LabelBatch:
    """Bring crops of labels to the device, and make their images.

    What the network is shown is aligned after it was displaced, if there is an ``alignment``.
    """
    labelx = torch.stack([crop.labelx for crop in crops]).to(device)
    labelz = torch.stack([crop.labelz for crop in crops]).to(device)
    image = microscope.record(labelz, [crop.noise_seed for crop in crops])
    return LabelBatch(_shown(image, crops, alignment), image, labelx, labelz)


def _shown(image: Tensor, crops: Sequence[Crop], alignment: DeepAlignNet | None = None) -> Tensor:
    shown = hill(image)
    shifts = [crop.shifts for crop in crops if crop.shifts is not None]
    if shifts:
        shown = shift_slices(shown, torch.stack(shifts).to(image.device))
    if alignment is not None:
        shown, _ = align(shown, alignment)
    return shown * torch.stack([crop.mask for crop in crops]).to(image.device)
