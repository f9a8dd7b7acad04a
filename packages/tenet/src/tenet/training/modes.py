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
