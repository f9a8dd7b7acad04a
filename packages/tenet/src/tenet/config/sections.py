"""The sections of a configuration: every key, its type, its default, and what is allowed."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# Constructors that a configuration may name; their text is looked up, never evaluated.
LOSSES = ("nn.BCELoss()", "nn.MSELoss()", "nn.L1Loss()", "nn.SmoothL1Loss()")
ACTIVATIONS = ("nn.ReLU(inplace=True)", "nn.ReLU()")


def _named(allowed: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> str:
        name = value.replace(" ", "").replace("torch.", "") if isinstance(value, str) else ""
        if name not in allowed:
            raise ValueError("no such name")
        return name

    return BeforeValidator(check)


def _false_is_zero(value: Any) -> Any:
    return 0 if value is False else value


def _null_is_false(value: Any) -> Any:
    return False if value is None else value


def _kind(kind: Any, words: str, *validators: BeforeValidator, **limits: Any) -> Any:
    return Annotated[kind, *validators, Field(description=words, **limits)]


_Count: Any = _kind(int, "a whole number, 1 or more", ge=1)
_CountOrZero: Any = _kind(int, "a whole number, 0 or more", ge=0)
_Masks: Any = _kind(
    int, "a whole number, 0 or more, or false for none", BeforeValidator(_false_is_zero), ge=0
)
_Real: Any = _kind(float, "a number", allow_inf_nan=False)
_Positive: Any = _kind(float, "a number above 0", gt=0, allow_inf_nan=False)
_Weight: Any = _kind(float, "a number, 0 or more", ge=0, allow_inf_nan=False)
_Share: Any = _kind(float, "a number between 0 and 1, both excluded", gt=0, lt=1)
_Probability: Any = _kind(float, "a number from 0 to below 1", ge=0, lt=1)
_Threshold: Any = _kind(float, "a number from 0 to 1", ge=0, le=1)
_Flag: Any = _kind(bool, "true or false")
_Switch: Any = _kind(bool, "true, false or null", BeforeValidator(_null_is_false))
_Text: Any = _kind(str, "a text", min_length=1)
_Ignored: Any = _kind(Any, "anything; this key is not used")
_Loss: Any = _kind(Literal[LOSSES], " or ".join(LOSSES), _named(LOSSES))
_Activation: Any = _kind(Literal[ACTIVATIONS], " or ".join(ACTIVATIONS), _named(ACTIVATIONS))
_Length = Annotated[int, Field(ge=1)]
_Size: Any = _kind(
    tuple[_Length, _Length, _Length], "three whole numbers [Z, Y, X], each 1 or more"
)
_LengthOrZero = Annotated[int, Field(ge=0)]
_Margin: Any = _kind(
    tuple[_LengthOrZero, _LengthOrZero, _LengthOrZero],
    "three whole numbers [Z, Y, X], each 0 or more",
)


class Section(BaseModel):
    """A section; unknown keys are faults."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


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
        tuple[_Length, ...],
        Field(min_length=1, description="a list of whole numbers, each 1 or more"),
    ]
    attn_list: Annotated[
        tuple[bool, ...],
        Field(description="a list of true and false, as long as hidden_channels_list"),
    ] = ()
    nblocks: _Count = 2
    activation: _Activation = ACTIVATIONS[0]
    dropout: _Probability = 0.5
    superres: _Flag = True
    partial: _Ignored = None
    reconstruct: _Flag = False
    apply_vq: _Flag = False
    use_x_quantized: _Flag = False
    threshold: _Threshold = 0.5
    use_fftconv: _Flag = True
    mu_z: _Real = 1.2
    sig_z: _Weight = 0.3
    blur_mode: Annotated[
        Literal["gibsonlanni", "gaussian"], Field(description="gibsonlanni or gaussian")
    ] = "gibsonlanni"
    photons: Annotated[int, Field(ge=1, le=2, description="1 or 2")] = 1
    size_x: _Count
    size_y: _Count
    size_z: _Count
    NA: _Positive
    wavelength: _Positive
    M: _Positive = 1.0
    ns: _Positive
    ng0: _Positive
    ng: _Positive
    ni0: _Positive
    ni: _Positive
    ti0: _Weight
    tg0: _Weight
    tg: _Weight
    res_lateral: _Positive
    res_axial: _Positive
    pZ: _Weight  # noqa: N815
    bet_z: _Positive = 5.0
    bet_xy: _Positive = 10.0
    poisson_weight: _Share = 0.001
    sig_eps: _Share = 0.001
    background: _Weight = 0.0
    scale: _Count
    mid: _Count = 40
    loss_fn: _Loss = "nn.MSELoss()"
    lr: _Positive = 1e-2
    num_iter_psf_pretrain: _Count = 20000
    nipsf_loss_target: _Positive = 1e-5
    device: _Ignored = None
    checkpointing: _Flag = False

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
    folderpath: _Text
    size: _Size
    cropsize: _Size
    I: _Count  # noqa: E741
    scale: _Count
    mask: _Flag = False
    mask_size: _Size = (1, 10, 10)
    mask_num: _Masks = 0
    surround: _Flag = False
    surround_size: _Margin = (0, 0, 0)
    seed: _CountOrZero = 0

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

    labelname: _Text = "_label"
    low: _CountOrZero
    high: _Count

    @model_validator(mode="after")
    def _check_range(self) -> "LabelCrops":
        if self.low >= self.high:
            raise ValueError(f"low is {self.low}; allowed: a whole number below high ({self.high})")
        return self


class StackCrops(_Crops):
    """Crops of recorded stacks: the first 80 % of the files train, the others validate.

    As `LabelCrops`; ``cropsize`` in voxels of the result, ``train`` tells which files.
    """

    train: _Flag


class TestDataset(Section):
    """Recordings kept for the test: those whose stem ends in one of ``test_images``."""

    __test__ = False  # no test, whatever its name

    test_images: Annotated[
        tuple[str, ...], Field(description="a list of texts, the ends of files' stems")
    ] = ()


class PhantomNumbers(Section):
    """What ``datagen phantoms`` makes; not used here."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class _Loop(Section):
    batch_size: _Count = 1
    n_epochs: _Count
    lr: _Positive
    path: _Text = "model"
    savefig_path: _Text = "train"
    partial: _Ignored = None
    es_patience: _Count = 10
    is_vibrate: _Flag = False


class PretrainLoop(_Loop):
    """Pre-training on labels.

    Attributes
    ----------
    batch_size, n_epochs, lr
        Crops in a step, epochs, learning rate.
    loss_fnx, weight_x
        Loss of the structure against its label, and its weight.
    loss_fnz
        Read but not used: the brightness has a loss of its own, of ``weight_z``.
    path, savefig_path
        Folders for the checkpoints and for the run.
    es_patience
        Epochs without a better moving mean of the validation loss before the end.
    is_vibrate
        Whether slices are displaced.
    without_noise
        Whether the image has none.
    """

    loss_fnx: _Loss = LOSSES[0]
    loss_fnz: _Loss = LOSSES[0]
    ewc: _Switch = False
    weight_x: _Weight = 1.0
    weight_z: _Weight = 1.0
    without_noise: _Flag = False

    @model_validator(mode="after")
    def _check(self) -> "PretrainLoop":
        if self.ewc:
            raise ValueError("ewc is true; allowed: false or null, there is nothing to hold on to")
        return self


class MRFWeights(Section):
    """Energies of a voxel beside its neighbours, see `tenet.training.losses.mrf_loss`."""

    l_00: _Real = 0.0
    l_01: _Real = 0.0
    l_10: _Real = 0.0
    l_11: _Real = 0.0


class TrainLoop(_Loop):
    """Fine-tuning on recordings.

    Attributes
    ----------
    loss_fn, params
        Read but not used.
    ewc, ewc_weight
        Whether the weights are held near the pre-trained ones, and how firmly.
    reconstruct
        Must be true: the reconstruction is what it learns from.
    is_instantblur
        Whether images are made of labels, as with ``--simulation``.
    adjust_luminance
        Whether the reconstruction's brightness is fitted before it is compared.
    zloss_weight, qloss_weight, ploss_weight
        Of the luminance, the quantisation and the PSF.
    mrfloss_order, mrfloss_dilation, mrfloss_weights
        Of the Markov random field.
    """

    loss_fn: _Loss = "nn.MSELoss()"
    params: _Ignored = None
    ewc: _Switch = False
    reconstruct: _Flag = True
    is_instantblur: _Flag = False
    adjust_luminance: _Flag = False
    zloss_weight: _Weight = 1.0
    ewc_weight: _Weight = 1.0
    qloss_weight: _Weight = 1.0
    ploss_weight: _Weight = 1.0
    mrfloss_order: _Count = 1
    mrfloss_dilation: _Count = 1
    mrfloss_weights: MRFWeights = MRFWeights()

    @model_validator(mode="after")
    def _check(self) -> "TrainLoop":
        if not self.reconstruct:
            raise ValueError(
                "reconstruct is false; allowed: true, fine-tuning learns from the reconstruction"
            )
        return self


class Range(Section):
    """From ``min`` to ``max``."""

    min: _Weight
    max: _Weight

    @model_validator(mode="after")
    def _check(self) -> "Range":
        if self.min > self.max or math.isinf(self.max):
            raise ValueError(f"min is {self.min:g}; allowed: up to max ({self.max:g})")
        return self


class Vibration(Section):
    """How slices are displaced (`tenet.alignment.vibration`), growing for ``max_step`` epochs."""

    max_step: _Count = 1
    b_sigma: Range = Range(min=0, max=0)
    amp_alpha: Range = Range(min=0, max=0)
    omega_alpha: Range = Range(min=0, max=0)
    noise_inv_var_alpha: Range = Range(min=2, max=10)


class Visualization(Section):
    """Where pictures go, and which slices they show."""

    path: _Text = "experiments/images"
    z_stack: _CountOrZero = 0
    x_slice: _CountOrZero = 0
    mip: _Count = 1
