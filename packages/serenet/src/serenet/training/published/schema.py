"""What a published SeReNet training YAML may hold; its strings are parsed, never evaluated."""

import inspect
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from scopekit.errors import UserError
from serenet.networks.checkpoints import build_model
from serenet.networks.published_names import MODELS
from serenet.training.sections import Count, Rate, Weight
from serenet.training.settings import SMALLEST_CROP, Method
from serenet.views.scan import SIDE

_CALL = re.compile(r"((?:\w+\.)*)(\w+)\(([^()]*)\)(?:\.cuda\(\))?")
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_ARGUMENT = re.compile(rf"(?:(\w+)\s*=\s*)?({_NUMBER})")
# Constructors that may be named: their module, and their arguments in order.
_LOSSES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "NLLMPGLoss": (("utils.", ""), ("miu", "var")),
    "LPIPS_vgg16_single_channel": (("utils.", ""), ()),
    "MSELoss": (("torch.nn.", "nn.", ""), ()),
    "L1Loss": (("torch.nn.", "nn.", ""), ()),
}
_ALLOWED = ", ".join(
    f"{modules[0]}{name}({', '.join(f'{a}=NUMBER' for a in arguments)})"
    for name, (modules, arguments) in _LOSSES.items()
)
# By the wrapper's and the model's name.
_METHODS: dict[str, dict[str, Method]] = {
    "sere-wrapper": {"serenet": "serenet", "serenetup5": "serenet"},
    "fsere-wrapper": {"fserenet": "fserenet", "serenet": "renet", "serenetup5": "renet"},
    "rlnet-wrapper": {"rlnet": "rlnet"},
    "rlfm-vcdnet": {"vcdnet": "vcdnet", "hylfmnet": "hylfmnet"},
    "vsnet-wrapper": {"vsnet": "vsnet"},
    "twnet-wrapper": {"twnet": "twnet"},
}
# Without a model's name, the loss tells.
_METHODS_BY_LOSS: dict[str, Method] = {"NLLMPGLoss": "fserenet", "L1Loss": "renet"}
# Neither make volumes nor learn from them.
WITHOUT_VOLUMES: tuple[Method, ...] = ("vsnet", "twnet")


@dataclass(frozen=True)
class PublishedLoss:
    """A loss: the string that names it, the constructor's name, the arguments given."""

    text: str
    name: str
    arguments: dict[str, float]


def parse_loss(text: Any) -> PublishedLoss:
    """Read a loss such as ``utils.NLLMPGLoss(miu=0, var=9)``.

    Raises
    ------
    ValueError
        If it is anything but a known constructor with numbers as arguments.
    """
    call = _CALL.fullmatch(text.strip()) if isinstance(text, str) else None
    modules, names = _LOSSES.get(call[2], ((), ())) if call else ((), ())
    if call is None or call[1] not in modules:
        raise ValueError(f"allowed are {_ALLOWED}")
    arguments: dict[str, float] = {}
    given = call[3].split(",") if call[3].strip() else []
    for n, part in enumerate(given):
        found = _ARGUMENT.fullmatch(part.strip())
        name = (found[1] or dict(enumerate(names)).get(n)) if found else None
        if found is None or name not in names or name in arguments:
            raise ValueError(f"allowed are {_ALLOWED}")
        arguments[name] = float(found[2])
    return PublishedLoss(text.strip(), call[2], arguments)


def parse_product(value: Any) -> float:
    """Read a number, or a product of numbers such as ``0.2*1e-6``.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    told = type(value) in (str, int, float)
    factors = [factor.strip() for factor in str(value).split("*")] if told else []
    if not factors or not all(re.fullmatch(_NUMBER, factor) for factor in factors):
        raise ValueError("a number, or a product of numbers such as 0.2*1e-6, is expected")
    return math.prod(float(factor) for factor in factors)


_Loss = Annotated[PublishedLoss | None, BeforeValidator(parse_loss)]
_Threshold = Annotated[float | None, Field(ge=0, lt=1)]
# An empty string or ``false`` names no file.
_File = Annotated[str | None, BeforeValidator(lambda value: value or None)]


class _Section(BaseModel):
    """Known keys are checked, unknown ones kept; ``key: null`` is as good as no such line."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {k: v for k, v in content.items() if v is not None or k not in cls.model_fields}


class _DatasetArgs(_Section):
    root_path: _File = None
    root_path_1: _File = None
    root_path_2: _File = None
    repeat: Count = 1
    first_k: Count | None = None
    last_k: Count | None = None

    @model_validator(mode="after")
    def _check(self) -> "_DatasetArgs":
        if self.root_path is None and self.root_path_1 is None:
            raise ValueError("root_path_1 is missing: the folder of light fields")
        if self.root_path is not None and self.root_path_1 is not None:
            raise ValueError("give root_path_1 or root_path, not both")
        return self


class _Dataset(_Section):
    name: Literal["image-folder", "paired-image-folders"] | None = None
    args: _DatasetArgs


class WrapperArgs(_Section):
    """How crops are made, and of which microscope they are."""

    inp_size: Count | None = None
    volume_depth: Count | None = None
    sample_views: Count | None = None
    sample_centerview: bool | None = None
    randomSeed: Annotated[int, Field(ge=0)] | None = None  # noqa: N815
    M: Rate | None = None
    zspacing: Annotated[Rate | None, BeforeValidator(parse_product)] = None
    Nnum: Count | None = None
    scanning: Count | None = None
    rand_factor: Annotated[float, Field(gt=0, le=1)] | None = None
    RGN_noise: tuple[Annotated[float, Field(allow_inf_nan=False)], Weight] | None = None
    RPN_noise: tuple[Rate, ...] = ()
    threshold: _Threshold = None


class _Wrapper(_Section):
    name: Literal[
        "sere-wrapper",
        "fsere-wrapper",
        "rlnet-wrapper",
        "rlfm-vcdnet",
        "vsnet-wrapper",
        "twnet-wrapper",
    ]
    args: WrapperArgs = WrapperArgs()


class _Data(_Section):
    dataset: _Dataset
    batch_size: Count | None = None


class _Training(_Data):
    wrapper: _Wrapper


class _Validation(_Data):
    wrapper: _Wrapper | None = None


def _without_nulls(content: Any) -> Any:
    return (
        {k: v for k, v in content.items() if v is not None}
        if isinstance(content, dict)
        else content
    )


class _Model(_Section):
    name: str | None = None
    args: Annotated[dict[str, Any], BeforeValidator(_without_nulls)] = {}


class _OptimizerArgs(_Section):
    lr: Rate | None = None


class _Optimizer(_Section):
    name: Literal["adam", "sgd"] | None = None
    args: _OptimizerArgs = _OptimizerArgs()


class _Steps(_Section):
    milestones: tuple[Count, ...] = ()
    gamma: Rate = 0.1  # PyTorch's own, where the file does not tell


class _Losses(_Section):
    pixel_loss1: _Loss = None
    perceptual_loss: _Loss = None


class PublishedConfig(_Section):
    """A published training YAML."""

    train_dataset: _Training
    val_dataset: _Validation | None = None
    model: _Model = _Model()
    optimizer: _Optimizer = _Optimizer()
    multi_step_lr: _Steps = _Steps()
    epoch_max: Count | None = None
    epoch_val: Count | None = None
    epoch_save: Count | None = None
    loss_fns: _Losses = _Losses()
    loss_fn: _Loss = None
    psf: _File = None
    input_views: tuple[int, ...] | None = None
    bpmode: Literal["selectiviews"] | None = None
    shiftmode: Literal["psfcenterofmass"] | None = None
    freeze_serenet: bool | None = None
    threshold: _Threshold = None
    load_pretrain: _File = None

    @model_validator(mode="after")
    def _check_method(self) -> "PublishedConfig":
        wrapper = self.train_dataset.wrapper.name
        if self.known_method is None and self.model.name is None:
            one, other = dict.fromkeys(_METHODS[wrapper].values())
            raise ValueError(f"model.name is missing: it tells {one} from {other}")
        if self.known_method is None:
            raise ValueError(
                f"model.name: {self.model.name!r} does not go with {wrapper}; known are "
                + ", ".join(_METHODS[wrapper])
            )
        return self

    @model_validator(mode="after")
    def _check_model(self) -> "PublishedConfig":
        try:
            with torch.device("meta"):
                build_model(self._network, **self.network_args)
        except UserError as failure:
            raise ValueError(f"model.args: {failure}") from failure
        return self

    @model_validator(mode="after")
    def _check_files(self) -> "PublishedConfig":
        if self.method == "fserenet" and self.load_pretrain is None:
            raise ValueError(
                "load_pretrain is missing: fserenet starts from a trained serenet; name its "
                "checkpoint there"
            )
        if self.method not in ("serenet", *WITHOUT_VOLUMES):
            for name, part in (("train", self.train_dataset), ("val", self.val_dataset)):
                if part is not None and part.dataset.args.root_path_2 is None:
                    raise ValueError(
                        f"{name}_dataset.dataset.args.root_path_2 is missing: {self.method} "
                        "learns from volumes"
                    )
        return self

    @model_validator(mode="after")
    def _check_crop(self) -> "PublishedConfig":
        side, key = self.train_dataset.wrapper.args.inp_size, "train_dataset.wrapper.args.inp_size"
        if self.method == "twnet" and side is not None and side % SIDE:
            raise ValueError(f"{key}: {side}; twnet needs a multiple of {SIDE}")
        if self.crop is not None and self.crop < SMALLEST_CROP:
            raise ValueError(f"{key}: {side}; crops have {SMALLEST_CROP} pixels or more")
        return self

    @property
    def crop(self) -> int | None:
        """Side of the crops, view pixels; a vsnet's are told before it scans them."""
        side = self.train_dataset.wrapper.args.inp_size
        if self.method == "vsnet" and side is not None:
            return side * int(self.network_args.get("upscale_factor", SIDE))
        return side

    @property
    def pixel_loss(self) -> PublishedLoss | None:
        """The loss that compares pixels."""
        return self.loss_fns.pixel_loss1 or self.loss_fn

    @property
    def bright_above(self) -> float | None:
        """The threshold of the balanced loss, wherever it is told."""
        of_wrapper = self.train_dataset.wrapper.args.threshold
        return of_wrapper if self.threshold is None else self.threshold

    @property
    def method(self) -> Method:
        """What is trained."""
        assert self.known_method is not None  # checked when read
        return self.known_method

    @property
    def known_method(self) -> Method | None:
        """What is trained; ``None`` where the file does not tell."""
        wrapper = self.train_dataset.wrapper.name
        methods = _METHODS[wrapper]
        if self.model.name is not None:
            return methods.get(self.model.name)
        if wrapper == "fsere-wrapper":
            return _METHODS_BY_LOSS.get(self.pixel_loss.name) if self.pixel_loss else None
        told = set(methods.values())
        return told.pop() if len(told) == 1 else None

    @property
    def _network(self) -> str:
        return self.model.name or ("serenet" if self.method == "renet" else self.method)

    @property
    def network_args(self) -> dict[str, Any]:
        """The constructor arguments of the network, without those that it does not have."""
        known = inspect.signature(MODELS[self._network].build).parameters
        return {name: value for name, value in self.model.args.items() if name in known}
