"""What fine-tuning learns; imported by the command line, so without PyTorch."""

from enum import StrEnum


class Mode(StrEnum):
    """What is learnt.

    Attributes
    ----------
    all
        Network and microscope.
    encoder
        The network alone.
    decoder
        The microscope alone: neural PSF and noise.
    old
        All, with the optimizer's state from pre-training.
    """

    all = "all"
    encoder = "encoder"
    decoder = "decoder"
    old = "old"


class AlignmentLoss(StrEnum):
    """By what the network that aligns slices learns, see `tenet.alignment.training`.

    Attributes
    ----------
    shift
        The true shifts.
    pixel
        The stack before its slices were displaced.
    perceptual, segmentation
        The same, as the pre-trained JNet sees it: its features, its structure.
    """

    shift = "shift"
    pixel = "pixel"
    perceptual = "perceptual"
    segmentation = "segmentation"
