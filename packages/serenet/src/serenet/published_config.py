"""Published SeReNet training YAMLs, written as this project's own."""

import math
import reprlib
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from optics import LightFieldPreset, presets
from scopekit.errors import UserError
from scopekit.outputs import whole_file
from scopekit.progress import say
from scopekit.settings import describe_faults, read_yaml
from serenet.models import network_for_scale
from serenet.published_schema import PublishedConfig
from serenet.training_settings import Method, Noise, parse_settings

_UNTRAINED = {
    "rlnet-wrapper": "rlnet",
    "rlfm-vcdnet": "vcdnet and hylfmnet",
    "vsnet-wrapper": "vsnet",
    "twnet-wrapper": "twnet",
}
_ARGS = "train_dataset.wrapper.args"
# Our keys, and where their values are.
_SAME = {
    "start_from": "load_pretrain",
    "psf": "psf",
    "crop": f"{_ARGS}.inp_size",
    "brightness": f"{_ARGS}.rand_factor",
    "optimizer": "optimizer.name",
    "learning_rate": "optimizer.args.lr",
    "epochs": "epoch_max",
    "batch_size": "train_dataset.batch_size",
    "validate_every": "epoch_val",
    "save_every": "epoch_save",
    "seed": f"{_ARGS}.randomSeed",
}
_PROJECTION = {
    "projected_views": f"{_ARGS}.sample_views",
    "central_view": f"{_ARGS}.sample_centerview",
}
# What tells the microscope, and the preset's own value.
_OPTICS: dict[str, Callable[[LightFieldPreset], float]] = {
    f"{_ARGS}.Nnum": lambda preset: preset.n_num,
    f"{_ARGS}.M": lambda preset: preset.magnification,
    f"{_ARGS}.zspacing": lambda preset: preset.depth_step_um * 1e-6,
    f"{_ARGS}.scanning": lambda preset: preset.scanning,
    "model.args.inChannels": lambda preset: len(preset.views),
}
_PIXEL_LOSSES: dict[Method, str] = {
    "serenet": "NLLMPGLoss",
    "renet": "L1Loss",
    "fserenet": "NLLMPGLoss",
}
_EXACT = {"miu": 0.0, "var": 0.0}  # volumes are compared without noise
_PERCEPTUAL_LOSS = "LPIPS_vgg16_single_channel"
# Known keys without a counterpart: why, or nothing where nothing is lost.
_WITHOUT = {
    "cache": "",
    "reset_param": "",
    "outChannels": "",
    "roi": "crops are taken from the whole field",
    "normalize_low": "this method does not normalise",
    "normalize_high": "this method does not normalise",
    "normalize_clamp": "this method does not normalise",
    "normalize_mode": "this method does not normalise",
    "psfinfo": "the PSF's shift is taken from the PSF",
    "resume": "go on with a run of your own by --resume",
}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80


def import_config(published: Path, out: Path, *, overwrite: bool) -> None:
    """Write a published training YAML as this project's.

    Whatever could not be taken over is told on standard error and on top of the file.

    Parameters
    ----------
    published
        Published YAML of serenet, renet or fserenet. Its strings are parsed, never evaluated.
    out
        YAML file for ``serenet train``. Paths go into it as they are.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If the file is of a method that is not trained here, or a key is missing or wrong.
    """
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"--out {out}: name a .yaml file")
    config = read_published(published)
    settings, notes = translate(config)
    checked = parse_settings(published, settings)
    lines = [f"not taken over: {_one_line(note)}" for note in notes]
    title = _one_line(f"Imported from the published training file {published}")
    text = "".join(f"# {line}\n" for line in (title, *lines)) + yaml.safe_dump(
        checked.model_dump(mode="json", exclude_unset=True), sort_keys=False, allow_unicode=True
    )
    with whole_file(out, overwrite=overwrite) as partial:
        partial.write_text(text, encoding="utf-8")
    for line in lines:
        say(line)


def read_published(path: Path) -> PublishedConfig:
    """Read and check a published training YAML; `UserError` names every fault."""
    content = read_yaml(path)
    match content:
        case {"train_dataset": {"wrapper": {"name": str(name)}}} if name in _UNTRAINED:
            raise UserError(
                f"{path}: train_dataset.wrapper.name: {name} is for {_UNTRAINED[name]}, which "
                f"this version does not train yet; it trains {', '.join(get_args(Method))}"
            )
    try:
        return PublishedConfig.model_validate(content)
    except ValidationError as failure:
        raise UserError(f"{path}: {describe_faults(failure, PublishedConfig)}") from failure


def translate(config: PublishedConfig) -> tuple[dict[str, Any], list[str]]:
    """Return our settings, and what could not be taken over: ``key value: reason``."""
    args, method = config.train_dataset.wrapper.args, config.method
    assert method is not None  # checked when read
    name = _nearest_preset(config)
    preset = presets[name]
    settings: dict[str, Any] = {"method": method, "optics": name, "data": _data(config, "train")}
    if config.val_dataset is not None:
        settings["validation"] = _data(config, "val")
    same = _SAME | (_PROJECTION if method == "serenet" else {})
    settings |= {ours: attrgetter(theirs)(config) for ours, theirs in same.items()}
    if config.psf is None and (args.volume_depth or math.inf) < len(preset.depths_um):
        settings["depths"] = args.volume_depth
    settings["noise"] = _noise(config, method)
    perceptual = config.loss_fns.perceptual_loss
    if method == "serenet" and (config.pixel_loss or perceptual) is not None:
        wanted = perceptual is not None and perceptual.name == _PERCEPTUAL_LOSS
        settings["perceptual"] = {"weight": 1 if wanted else 0}
    steps = config.multi_step_lr
    if steps.milestones:
        schedule = {"kind": "steps", "milestones": steps.milestones, "gamma": steps.gamma}
        settings["schedule"] = schedule
    notes = [
        *_optics_notes(config, name, preset),
        *_loss_notes(config, method, settings["noise"]),
        *_method_notes(config, method, preset),
        *_validation_notes(config),
        *_unknown(config),
    ]
    return {ours: value for ours, value in settings.items() if value is not None}, notes


def _data(config: PublishedConfig, part: str) -> dict[str, Any]:
    args = attrgetter(f"{part}_dataset.dataset.args")(config)
    data = {
        "views": args.root_path_1 or args.root_path,
        "volumes": args.root_path_2,
        "first": args.first_k,
        "last": args.last_k,
        "repeat": args.repeat,
    }
    return {ours: value for ours, value in data.items() if value is not None}


def _noise(config: PublishedConfig, method: Method) -> dict[str, Any]:
    args = config.train_dataset.wrapper.args
    mean, variance = args.RGN_noise or (0.0, 0.0)
    if args.RGN_noise is None and method == "serenet":
        # Ours adds the noise that the likelihood expects.
        expected = config.pixel_loss.arguments if config.pixel_loss is not None else {}
        mean, variance = expected.get("miu", Noise().mean), expected.get("var", Noise().variance)
    noise: dict[str, Any] = {"variance": variance, "mean": mean}
    return noise | ({"photons": args.RPN_noise} if args.RPN_noise else {})


def _told(config: PublishedConfig) -> dict[str, float]:
    values = {key: attrgetter(key)(config) for key in _OPTICS}
    return {key: value for key, value in values.items() if value is not None}


def _nearest_preset(config: PublishedConfig) -> str:
    """Return the preset nearest by Nnum, then the one that agrees in most."""
    told = _told(config)

    def distance(name: str) -> tuple[float, int]:
        preset = presets[name]
        wrong = sum(not math.isclose(told[k], _OPTICS[k](preset), rel_tol=1e-6) for k in told)
        return abs(told.get(f"{_ARGS}.Nnum", preset.n_num) - preset.n_num), wrong

    return min(presets, key=distance)


def _optics_notes(config: PublishedConfig, name: str, preset: LightFieldPreset) -> Iterator[str]:
    remedy = "if yours differs, name a YAML file of your microscope at optics"
    told = _told(config)
    if not told:
        yield f"the microscope, of which nothing is told: optics {name} is assumed; {remedy}"
    for key, value in told.items():
        known = _OPTICS[key](preset)
        if not math.isclose(value, known, rel_tol=1e-6):
            yield f"{key} {value:g}: optics {name} has {known:g}; {remedy}"
    views = config.input_views
    if views is not None and views != preset.views:
        what = "the same in another order" if set(views) == set(preset.views) else "other views"
        yield f"input_views {_SHORT.repr(list(views))}: optics {name} has {what}; {remedy}"
    depth = config.train_dataset.wrapper.args.volume_depth
    if depth is not None and config.psf is not None:
        yield f"{_ARGS}.volume_depth {depth}: the PSF file has its own depths"
    elif depth is not None and depth > len(preset.depths_um):
        yield f"{_ARGS}.volume_depth {depth}: optics {name} has {len(preset.depths_um)}; {remedy}"


def _loss_notes(config: PublishedConfig, method: Method, noise: dict[str, Any]) -> Iterator[str]:
    loss, wanted = config.pixel_loss, _PIXEL_LOSSES[method]
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
    elif perceptual is not None and perceptual.name != _PERCEPTUAL_LOSS:
        yield f"loss_fns.perceptual_loss {perceptual.text}: {method} learns by {_PERCEPTUAL_LOSS}"
    if method == "serenet" and config.train_dataset.wrapper.args.RGN_noise is None:
        yield (
            f"{_ARGS}.RGN_noise, which is missing: noise of the variance that the likelihood "
            f"expects, {noise['variance']:g}, is added"
        )


def _method_notes(
    config: PublishedConfig, method: Method, preset: LightFieldPreset
) -> Iterator[str]:
    model, frozen = config.model, config.freeze_serenet
    ours = network_for_scale(preset.lateral_scale)
    if method != "fserenet" and model.name not in (None, ours):
        yield f"model.name {model.name}: for a scale of {preset.lateral_scale:.3g} it is {ours}"
    if model.args.negative_slope != 0.1:
        yield f"model.args.negative_slope {model.args.negative_slope:g}: it is 0.1"
    if not model.args.usingbias:
        yield "model.args.usingbias false: it is true"
    if frozen is not None and frozen != (method == "fserenet"):
        how = "always" if method == "fserenet" else "never"
        yield f"freeze_serenet {str(frozen).lower()}: {method} {how} freezes the first layers"
    if method != "serenet":
        for key in _PROJECTION.values():
            value = attrgetter(key)(config)
            if value is not None:
                yield f"{key} {value}: {method} projects no views"


def _validation_notes(config: PublishedConfig) -> Iterator[str]:
    training = config.train_dataset.wrapper
    validation = config.val_dataset.wrapper if config.val_dataset is not None else None
    if validation is None:
        return
    if validation.name != training.name:
        yield f"val_dataset.wrapper.name {validation.name}: validation is of {training.name}"
    for key in type(validation.args).model_fields:
        value = getattr(validation.args, key)
        if value not in (None, (), getattr(training.args, key)):
            yield (
                f"val_dataset.wrapper.args.{key} {value}: validation takes the middle of every "
                "field, as large as the training's crops and without noise"
            )


def _unknown(section: BaseModel, path: str = "") -> Iterator[str]:
    for name, value in (section.model_extra or {}).items():
        reason = _WITHOUT.get(name, "unknown key")
        if name not in _WITHOUT or (value and reason):
            yield f"{path}{name} {_SHORT.repr(value)}: {reason}"
    for name in type(section).model_fields:
        inner = getattr(section, name)
        if isinstance(inner, BaseModel):
            yield from _unknown(inner, f"{path}{name}.")


def _one_line(text: str) -> str:
    """Return text that stays within a comment of one line, whatever it quotes."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
