"""What the alignment network learns by; imported by the command line, so without PyTorch."""

from enum import StrEnum


class AlignmentLoss(StrEnum):
    """By what the network that aligns slices learns, see `AlignmentTraining`.

    Attributes
    ----------
    shift
        The true shifts.
    pixel
        The stack before its slices were displaced.
    perceptual, segmentation
        The same, as a judge sees it, such as the pre-trained JNet: its features, its structure.
    """

    shift = "shift"
    pixel = "pixel"
    perceptual = "perceptual"
    segmentation = "segmentation"


JUDGED = (AlignmentLoss.perceptual, AlignmentLoss.segmentation)
