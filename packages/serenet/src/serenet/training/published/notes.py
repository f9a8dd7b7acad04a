"""What of a published SeReNet training YAML has no counterpart here, and why."""

import reprlib
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from optics import LightFieldMicroscope
from serenet.networks.checkpoints import network_for_scale
from serenet.training.published.optics import NEEDS_PSF, WRAPPER_ARGS
from serenet.training.published.schema import WITHOUT_VOLUMES, PublishedConfig
from serenet.training.settings import FAMILY, Method

PERCEPTUAL_LOSS = "LPIPS_vgg16_single_channel"
_PIXEL_LOSSES: dict[Method, str] = {
    "serenet": "NLLMPGLoss",
    "renet": "L1Loss",
    "fserenet": "NLLMPGLoss",
    "vcdnet": "MSELoss",
    "hylfmnet": "MSELoss",
    "rlnet": "MSELoss",
    "vsnet": "L1Loss",
    "twnet": "MSELoss",
}
_EXACT = {"miu": 0.0, "var": 0.0}  # volumes are compared without noise
# What becomes 0 and 1, percentiles, and whether values are kept between them.
_FROM_VIEWS = {"normalize_low": 10, "normalize_high": 99.9, "normalize_clamp": True}
_NORMALISED: dict[Method, dict[str, float]] = {
    "vcdnet": _FROM_VIEWS,
    "hylfmnet": _FROM_VIEWS,
    "rlnet": {"normalize_low": 0, "normalize_high": 99.99, "normalize_clamp": True},
    "twnet": {"normalize_low": 0, "normalize_high": 99.99, "normalize_clamp": False},
}
_NORMALISATION = (*_FROM_VIEWS, "normalize_mode")
# Known keys without a counterpart: why, or nothing where nothing is lost.
_WITHOUT = {
    "cache": "",
    "roi": "crops are taken from the whole field",
    "psfinfo": "the PSF's shift is taken from the PSF",
    "resume": "go on with a run of your own by --resume",
}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def loss_notes(config: PublishedConfig, noise: dict[str, Any]) -> Iterator[str]:
    """Tell where the method learns by another loss, or expects another ``noise``."""
    method, loss = config.method, config.pixel_loss
    wanted = _PIXEL_LOSSES[method]
    key = "loss_fn" if config.loss_fns.pixel_loss1 is None else "loss_fns.pixel_loss1"
    own = {"miu": noise["mean"], "var": noise["variance"]} if method == "serenet" else _EXACT
    if loss is not None and loss.name != wanted:
        yield f"{key} {loss.text}: {method} learns by {wanted}"
    elif loss is not None and loss.arguments != {name: own[name] for name in loss.arguments}:
        yield f"{key} {loss.text}: {method} takes miu={own['miu']:g}, var={own['var']:g}"
    if key != "loss_fn" and config.loss_fn is not None:
        yield f"loss_fn {config.loss_fn.text}: {key} is given too"
    perceptual = config.loss_fns.perceptual_loss
    if perceptual is not None and method != "serenet":
        yield f"loss_fns.perceptual_loss {perceptual.text}: {method} has no such loss"
    elif perceptual is not None and perceptual.name != PERCEPTUAL_LOSS:
        yield f"loss_fns.perceptual_loss {perceptual.text}: {method} learns by {PERCEPTUAL_LOSS}"
    if method == "serenet" and config.train_dataset.wrapper.args.RGN_noise is None:
        yield (
            f"{WRAPPER_ARGS}.RGN_noise, which is missing: noise of the variance that the "
            f"likelihood expects, {noise['variance']:g}, is added"
        )


def method_notes(config: PublishedConfig, microscope: LightFieldMicroscope) -> Iterator[str]:
    """Tell what the method does in its own way."""
    method, frozen, args = config.method, config.freeze_serenet, config.train_dataset.wrapper.args
    if method in FAMILY:
        yield from _family_notes(config, microscope)
    if frozen is not None and frozen != (method == "fserenet"):
        how = "always" if method == "fserenet" else "never"
        yield f"freeze_serenet {str(frozen).lower()}: {method} {how} freezes the first layers"
    if method != "serenet":
        for key in ("sample_views", "sample_centerview"):
            value = getattr(args, key)
            if value is not None:
                yield f"{WRAPPER_ARGS}.{key} {value}: {method} projects no views"
    if method in ("vcdnet", "hylfmnet") and (args.model_extra or {}).get("normalize_low") is None:
        yield (
            f"{WRAPPER_ARGS}.normalize_low, which is missing: "
            + _other_normalisation(method, "normalize_low")
        )
    if method == "twnet":
        if args.rand_factor not in (None, 1):
            yield f"{WRAPPER_ARGS}.rand_factor {args.rand_factor:g}: twnet does not dim its views"
        for key, noise in (("RGN_noise", args.RGN_noise), ("RPN_noise", args.RPN_noise)):
            if noise is not None and any(noise):
                yield f"{WRAPPER_ARGS}.{key} {list(noise)}: twnet adds no noise"


def _family_notes(config: PublishedConfig, microscope: LightFieldMicroscope) -> Iterator[str]:
    name, args = config.model.name, config.network_args
    ours = network_for_scale(microscope.lateral_scale)
    if config.method != "fserenet" and name not in (None, ours):
        yield f"model.name {name}: for a scale of {microscope.lateral_scale:.3g} it is {ours}"
    if args.get("negative_slope", 0.1) != 0.1:
        yield f"model.args.negative_slope {args['negative_slope']:g}: it is 0.1"
    if not args.get("usingbias", True):
        yield "model.args.usingbias false: it is true"


def data_notes(config: PublishedConfig) -> Iterator[str]:
    """Tell what of the data is not needed, and how validation differs."""
    method, training, validation = config.method, config.train_dataset, config.val_dataset
    if method in WITHOUT_VOLUMES:
        for name, part in (("train", training), ("val", validation)):
            volumes = part.dataset.args.root_path_2 if part is not None else None
            if volumes is not None:
                key = f"{name}_dataset.dataset.args.root_path_2"
                yield f"{key} {volumes!r}: {method} learns from light fields alone"
    wrapper = validation.wrapper if validation is not None else None
    if wrapper is None:
        return
    if wrapper.name != training.wrapper.name:
        yield f"val_dataset.wrapper.name {wrapper.name}: validation is of {training.wrapper.name}"
    what = "the middle of every field, as large as the training's crops and without noise"
    if method == "twnet":
        what = "whole views"
    for key in type(wrapper.args).model_fields:
        value = getattr(wrapper.args, key)
        if value not in (None, (), getattr(training.wrapper.args, key)):
            yield f"val_dataset.wrapper.args.{key} {value}: validation takes {what}"


def key_notes(config: PublishedConfig) -> Iterator[str]:
    """Tell the keys that are unknown, or known and without a counterpart."""
    yield from _extra_keys(config, config.method)
    for name, value in config.model.args.items():
        if name not in config.network_args:
            yield f"model.args.{name} {_SHORT.repr(value)}: unknown key"


def _extra_keys(section: BaseModel, method: Method, path: str = "") -> Iterator[str]:
    for name, value in (section.model_extra or {}).items():
        reason = _reason(name, value, method)
        if reason:
            yield f"{path}{name} {_SHORT.repr(value)}: {reason}"
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if isinstance(inner, BaseModel):
            yield from _extra_keys(inner, method, f"{path}{name}.")


def _reason(name: str, value: Any, method: Method) -> str:
    """Return why a key is not taken over; nothing where nothing is lost."""
    if name in _NORMALISED.get(method, {}):
        agrees = value is None or value == _NORMALISED[method][name]
        return "" if agrees else _other_normalisation(method, name)
    if name in _NORMALISATION:
        normalises = method in _NORMALISED
        reason = "normalises by percentiles" if normalises else "does not normalise"
        return f"{method} {reason}" if value else ""
    if name == "psfinfo" and method not in NEEDS_PSF:
        return f"{method} needs no PSF" if value else ""
    if name not in _WITHOUT:
        return "unknown key"
    return _WITHOUT[name] if value else ""


def _other_normalisation(method: Method, name: str) -> str:
    known = _NORMALISED[method][name]
    value = str(known).lower() if isinstance(known, bool) else f"{known:g}"
    also = " for views, 0 for volumes" if name == "normalize_low" and known else ""
    return f"{method} takes {value}{also}"
