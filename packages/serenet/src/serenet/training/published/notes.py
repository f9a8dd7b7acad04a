"""What of a published SeReNet training YAML has no counterpart here, and why."""

import reprlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from optics import LightFieldMicroscope
from serenet.networks.checkpoints import network_for_scale
from serenet.training.published.optics import WRAPPER_ARGS
from serenet.training.published.schema import WITHOUT_VOLUMES, PublishedConfig
from serenet.training.sections import Balance
from serenet.training.settings import BALANCED, Method

PERCEPTUAL_LOSS = "LPIPS_vgg16_single_channel"
# Keys whose value a method settles, and that value; None: it does nothing of the kind.
_PERCENTILES = {"normalize_low": 0, "normalize_high": 99.99, "normalize_clamp": True}
_OF_VIEWS = {"normalize_low": 10, "normalize_high": 99.9, "normalize_clamp": True}
_NO_PERCENTILES = dict.fromkeys(_PERCENTILES)
_NO_PROJECTION = {"sample_views": None, "sample_centerview": None, "freeze_serenet": None}
_NO_THRESHOLD = {"threshold": None}
_NO_NOISE = {"rand_factor": 1, "RGN_noise": None, "RPN_noise": None}
_FAMILY = _NO_PERCENTILES | _NO_THRESHOLD | {"negative_slope": 0.1, "usingbias": True}
_TAKES: dict[Method, dict[str, Any]] = {
    "serenet": {**_FAMILY, "pixel_loss": "NLLMPGLoss", "freeze_serenet": None},
    "renet": {**_FAMILY, **_NO_PROJECTION, "pixel_loss": "L1Loss"},
    "fserenet": {**_FAMILY, **_NO_PROJECTION, "pixel_loss": "NLLMPGLoss", "freeze_serenet": True},
    "vcdnet": {**_OF_VIEWS, **_NO_PROJECTION, "pixel_loss": "MSELoss"},
    "hylfmnet": {**_OF_VIEWS, **_NO_PROJECTION, "pixel_loss": "MSELoss"},
    "rlnet": {**_PERCENTILES, **_NO_PROJECTION, **_NO_THRESHOLD, "pixel_loss": "MSELoss"},
    "vsnet": {**_NO_PERCENTILES, **_NO_PROJECTION, **_NO_THRESHOLD, "pixel_loss": "L1Loss"},
    "twnet": {
        **(_PERCENTILES | {"normalize_clamp": False}),
        **(_NO_PROJECTION | _NO_THRESHOLD | _NO_NOISE),
        "pixel_loss": "MSELoss",
    },
}
# Known keys without a counterpart: why, or nothing where nothing is lost.
_WITHOUT = {
    "cache": "",
    "normalize_mode": "percentiles are taken, if any",
    "roi": "crops are taken from the whole field",
    "psfinfo": "the PSF's shift follows from the PSF, where one is needed",
    "resume": "go on with a run of your own by --resume",
}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def key_notes(config: PublishedConfig, microscope: LightFieldMicroscope) -> Iterator[str]:
    """Tell the keys that the method settles otherwise, that are unknown, or without counterpart."""
    takes = _TAKES[config.method]
    for path, name, value, known in _keys(config):
        reason = ""
        if name in takes and not (known and path.startswith("val_dataset")):
            reason = _other_value(config.method, value, takes[name])
        elif not known and (value or name not in _WITHOUT):
            reason = _WITHOUT.get(name, "unknown key")
        if reason:
            yield f"{path} {_SHORT.repr(value)}: {reason}"
    for name, value in config.model.args.items():
        if name not in config.network_args:
            yield f"model.args.{name} {_SHORT.repr(value)}: unknown key"
    named, fitting = config.model.name, network_for_scale(microscope.lateral_scale)
    if config.method in ("serenet", "renet") and named not in (None, fitting):
        yield f"model.name {named}: for a scale of {microscope.lateral_scale:.3g} it is {fitting}"
    args = config.train_dataset.wrapper.args
    if config.method in BALANCED and config.bright_above is None:
        ours = Balance()
        yield (
            f"threshold, which is missing: in the first {ours.epochs} epochs voxels above "
            f"{ours.threshold:g} of the brightest count as bright"
        )
    if takes["normalize_low"] and (args.model_extra or {}).get("normalize_low") is None:
        yield f"{WRAPPER_ARGS}.normalize_low, which is missing: {config.method} takes 10"


def _keys(section: BaseModel, path: str = "") -> Iterator[tuple[str, str, Any, bool]]:
    """Yield the dotted path, last part and value of every key, and whether it is a known one."""
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from _keys(value, f"{path}{name}.")
        elif name == "args":
            yield from ((f"{path}args.{key}", key, inner, True) for key, inner in value.items())
        else:
            yield f"{path}{name}", name, value, name in type(section).model_fields


def _other_value(method: Method, value: Any, taken: Any) -> str:
    if value in (None, (), taken) or (taken is None and (not value or value == (0, 0))):
        return ""
    return f"{method} takes {'none' if taken is None else taken}"


def loss_notes(config: PublishedConfig, noise: dict[str, Any]) -> Iterator[str]:
    """Tell where the method learns by another loss, or expects another ``noise``."""
    method, loss, wanted = config.method, config.pixel_loss, _TAKES[config.method]["pixel_loss"]
    key = "loss_fn" if config.loss_fns.pixel_loss1 is None else "loss_fns.pixel_loss1"
    # Volumes are compared without noise.
    own = {"miu": 0.0, "var": 0.0}
    if method == "serenet":
        own = {"miu": noise["mean"], "var": noise["variance"]}
    if loss is not None and loss.name != wanted:
        yield f"{key} {loss.text}: {method} learns by {wanted}"
    elif loss is not None and any(own[name] != given for name, given in loss.arguments.items()):
        yield f"{key} {loss.text}: {method} takes miu={own['miu']:g}, var={own['var']:g}"
    if key != "loss_fn" and config.loss_fn is not None:
        yield f"loss_fn {config.loss_fn.text}: {key} is given too"
    perceptual = config.loss_fns.perceptual_loss
    learned = PERCEPTUAL_LOSS if method == "serenet" else "none"
    if perceptual is not None and perceptual.name != learned:
        yield f"loss_fns.perceptual_loss {perceptual.text}: {method} takes {learned}"
    if method == "serenet" and config.train_dataset.wrapper.args.RGN_noise is None:
        yield (
            f"{WRAPPER_ARGS}.RGN_noise, which is missing: noise of the variance that the "
            f"likelihood expects, {noise['variance']:g}, is added"
        )


def data_notes(config: PublishedConfig) -> Iterator[str]:
    """Tell what of the data is not needed, and how validation differs."""
    training, validation = config.train_dataset, config.val_dataset
    for name, part in (("train", training), ("val", validation)):
        if config.method in WITHOUT_VOLUMES and part and part.dataset.args.root_path_2:
            key = f"{name}_dataset.dataset.args.root_path_2 {part.dataset.args.root_path_2!r}"
            yield f"{key}: {config.method} learns from light fields alone"
    wrapper = validation.wrapper if validation is not None else None
    if wrapper is None:
        return
    if wrapper.name != training.wrapper.name:
        yield f"val_dataset.wrapper.name {wrapper.name}: validation is of {training.wrapper.name}"
    for key in type(wrapper.args).model_fields:
        value = getattr(wrapper.args, key)
        if value not in (None, (), getattr(training.wrapper.args, key)):
            what = "whole views" if config.method == "twnet" else "the middle, without noise"
            yield f"val_dataset.wrapper.args.{key} {value}: validation takes {what}"
