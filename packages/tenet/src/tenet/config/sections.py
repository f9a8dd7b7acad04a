"""The sections of a configuration but the loops: every key, its type, its default, its range."""

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from tenet.config.kinds import (
    ACTIVATIONS,
    Activation,
    Count,
    CountOrZero,
    Flag,
    Ignored,
    Interval,
    Length,
    Loss,
    Margin,
    Masks,
    Positive,
    Probability,
    Real,
    Section,
    Share,
    Size,
    Text,
    Threshold,
    Weight,
)


class Params(Section):
    """The network, the microscope and the noise; lengths in um.

    Attributes
    ----------
    hidden_channels_list, attn_list
        Channels of each level of the U-Net, the finest first, and whether it has self-attention.
    nblocks, dropout
        Residual blocks in a row; probability in each.
    superres, scale
        Whether the network refines axially, and how many times.
    reconstruct, apply_vq, use_x_quantized, threshold
        Whether the microscope is modelled, the structure quantised, and the quantised one used;
        what counts as structure. The commands switch on what they need.
    any_scale
        Whether the network learnt from images of any scale: that of recordings is found then, see
        `tenet.network.scale`; else their own range counts as 0 to 1, as published.
    blur_mode
        PSF: ``gibsonlanni`` or ``gaussian`` (of widths ``bet_xy`` and ``bet_z``).
    photons
        1; or 2 for the square of the PSF, which is what two-photon excitation means physically.
    size_x, size_y, size_z, NA ... pZ
        Of the PSF, see `optics.gibson_lanni`; sizes in voxels of the result.
    poisson_weight, sig_eps
        Noise to start from: variance per brightness, and of the dark.
    mid, lr, num_iter_psf_pretrain, nipsf_loss_target
        Hidden units of the neural PSF, and how it is fitted.
    checkpointing
        Compute activations twice instead of keeping them: less memory, more time.
    """

    hidden_channels_list: Annotated[
        tuple[Length, ...],
        Field(min_length=1, description="a list of whole numbers, each 1 or more"),
    ]
    attn_list: Annotated[
        tuple[bool, ...],
        Field(description="a list of true and false, as long as hidden_channels_list"),
    ] = ()
    nblocks: Count = 2
    activation: Activation = ACTIVATIONS[0]
    dropout: Probability = 0.5
    superres: Flag = True
    partial: Ignored = None
    reconstruct: Flag = False
    apply_vq: Flag = False
    use_x_quantized: Flag = False
    threshold: Threshold = 0.5
    any_scale: Flag = False
    use_fftconv: Flag = True
    mu_z: Real = 1.2
    sig_z: Weight = 0.3
    blur_mode: Annotated[
        Literal["gibsonlanni", "gaussian"], Field(description="gibsonlanni or gaussian")
    ] = "gibsonlanni"
    photons: Annotated[int, Field(ge=1, le=2, description="1 or 2")] = 1
    size_x: Count
    size_y: Count
    size_z: Count
    NA: Positive
    wavelength: Positive
    M: Positive = 1.0
    ns: Positive
    ng0: Positive
    ng: Positive
    ni0: Positive
    ni: Positive
    ti0: Weight
    tg0: Weight
    tg: Weight
    res_lateral: Positive
    res_axial: Positive
    pZ: Weight  # noqa: N815
    bet_z: Positive = 5.0
    bet_xy: Positive = 10.0
    poisson_weight: Share = 0.001
    sig_eps: Share = 0.001
    background: Weight = 0.0
    scale: Count
    mid: Count = 40
    loss_fn: Loss = "nn.MSELoss()"
    lr: Positive = 1e-2
    num_iter_psf_pretrain: Count = 20000
    nipsf_loss_target: Positive = 1e-5
    device: Ignored = None
    checkpointing: Flag = False

    @model_validator(mode="after")
    def _check(self) -> "Params":
        if self.attn_list and len(self.attn_list) != len(self.hidden_channels_list):
            raise ValueError(
                f"attn_list has {len(self.attn_list)} entries, hidden_channels_list "
                f"{len(self.hidden_channels_list)}; allowed: as many, or leave it out"
            )
        if self.attn_list and self.attn_list[0]:
            raise ValueError(
                "attn_list[0] is true; allowed: false, attention over the voxels of the finest "
                "level fits no memory"
            )
        if self.ni0 <= self.NA:
            raise ValueError(f"NA is {self.NA:g}; allowed: a number below ni0 ({self.ni0:g})")
        if self.size_z < self.scale:
            raise ValueError(
                f"size_z is {self.size_z}; allowed: a whole number, scale ({self.scale}) or more"
            )
        return self

    @property
    def levels(self) -> int:
        """How often the U-Net halves the volume."""
        return len(self.hidden_channels_list) - 1


class _Crops(Section):
    folderpath: Text
    size: Size
    cropsize: Size
    I: Count  # noqa: E741
    scale: Count
    mask: Flag = False
    mask_size: Size = (1, 10, 10)
    mask_num: Masks = 0
    surround: Flag = False
    surround_size: Margin = (0, 0, 0)
    seed: CountOrZero = 0

    @model_validator(mode="after")
    def _check(self) -> "_Crops":
        for axis, crop, size in zip("ZYX", self.cropsize, self.size, strict=True):
            if crop > size:
                raise ValueError(
                    f"cropsize is {list(self.cropsize)}; allowed: {axis} up to that of size "
                    f"({size})"
                )
        if self.cropsize[0] % self.scale:
            raise ValueError(
                f"cropsize is {list(self.cropsize)}; allowed: Z a multiple of scale ({self.scale})"
            )
        return self

    @property
    def image_crop(self) -> tuple[int, int, int]:
        """(Z, Y, X) of a crop of the image, which is coarser in z."""
        return self.cropsize[0] // self.scale, self.cropsize[1], self.cropsize[2]


class LabelCrops(_Crops):
    """Crops of labelled volumes.

    Attributes
    ----------
    folderpath, labelname
        Folder, and what follows the number in a file's name, before ``x.npy`` and ``z.npy``.
    size, cropsize
        (Z, Y, X) of the volumes and of the crops.
    I
        Crops in an epoch.
    low, high
        Volumes ``low`` up to, not including, ``high``.
    scale
        How many times coarser the image is in z.
    mask, mask_size, mask_num
        Whether boxes of the image are set to 0, their size and number.
    surround, surround_size
        Whether a margin of the image is set to 0, and its width in voxels of the labels.
    seed
        Of the places, in validation.
    """

    labelname: Text = "_label"
    low: CountOrZero
    high: Count

    @model_validator(mode="after")
    def _check_range(self) -> "LabelCrops":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}; allowed: a whole number below high ({self.high})")
        return self


class StackCrops(_Crops):
    """Crops of recorded stacks: the first 80 % of the files train, the others validate.

    As `LabelCrops`; ``cropsize`` in voxels of the result, ``train`` tells which files.
    """

    train: Flag


class Scenes(Section):
    """Random scenes to pre-train on, drawn and imaged on the spot (`tenet.data.scenes`).

    Attributes
    ----------
    cropsize, I
        (Z, Y, X) of the crops, in voxels of the result; crops in an epoch.
    validation, seed
        Crops to validate with, and their seed.
    NA_spread
        The numerical aperture of each crop differs from that of ``params`` by up to this share.
    brightness
        Range of a scene's brightness: recordings of any scale between are understood.
    poisson_weight, sig_eps
        Ranges of the noise, see `optics.add_two_photon_noise`.
    """

    cropsize: Size
    I: Count  # noqa: E741
    validation: Count = 24
    seed: CountOrZero = 0
    NA_spread: Probability = 0.12
    brightness: Interval = (0.15, 1.0)
    poisson_weight: Interval = (0.001, 0.1)
    sig_eps: Interval = (0.001, 0.05)


class TestDataset(Section):
    """Recordings kept for the test: those whose stem ends in one of ``test_images``."""

    __test__ = False  # no test, whatever its name

    test_images: Annotated[
        tuple[str, ...], Field(description="a list of texts, the ends of files' stems")
    ] = ()


class PhantomNumbers(Section):
    """What ``datagen phantoms`` makes; not used here."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class Range(Section):
    """From ``min`` to ``max``."""

    min: Weight
    max: Weight

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if self.min > self.max or math.isinf(self.max):
            raise ValueError(f"min is {self.min:g}; allowed: up to max ({self.max:g})")
        return self


class Vibration(Section):
    """How slices are displaced (`tenet.alignment.vibration`), growing for ``max_step`` epochs."""

    max_step: Count = 1
    b_sigma: Range = Range(min=0, max=0)
    amp_alpha: Range = Range(min=0, max=0)
    omega_alpha: Range = Range(min=0, max=0)
    noise_inv_var_alpha: Range = Range(min=2, max=10)


class Visualization(Section):
    """Where pictures go, and which slices they show."""

    path: Text = "experiments/images"
    z_stack: CountOrZero = 0
    x_slice: CountOrZero = 0
    mip: Count = 1
