"""Published SeReNet training YAMLs, written as this project's own."""

from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from optics import presets
from scopekit.errors import UserError
from scopekit.outputs import require_no_input, whole_file
from scopekit.progress import say
from scopekit.settings import describe_faults, read_yaml
from serenet.training.published.notes import (
    PERCEPTUAL_LOSS,
    data_notes,
    key_notes,
    loss_notes,
)
from serenet.training.published.optics import (
    WRAPPER_ARGS,
    fewer_depths,
    nearest_microscope,
    optics_notes,
    psf_file,
)
from serenet.training.published.schema import WITHOUT_VOLUMES, PublishedConfig
from serenet.training.sections import Balance, Noise
from serenet.training.settings import BALANCED, FAMILY, parse_settings

# Our keys, and where their values are.
_SAME = {
    "start_from": "load_pretrain",
    "crop": "crop",
    "optimizer": "optimizer.name",
    "learning_rate": "optimizer.args.lr",
    "epochs": "epoch_max",
    "batch_size": "train_dataset.batch_size",
    "validate_every": "epoch_val",
    "save_every": "epoch_save",
    "seed": f"{WRAPPER_ARGS}.randomSeed",
}
_PROJECTION = {
    "projected_views": f"{WRAPPER_ARGS}.sample_views",
    "central_view": f"{WRAPPER_ARGS}.sample_centerview",
}
# Of the networks' arguments, what the optics tell.
_OF_OPTICS = ("inChannels", "outChannels", "angRes")


def import_config(published: Path, out: Path, *, overwrite: bool) -> None:
    """Write a published training YAML as this project's.

    Whatever could not be taken over is told on standard error and on top of the file.

    Parameters
    ----------
    published
        Published YAML. Its strings are parsed, never evaluated.
    out
        YAML file for ``serenet train``. Paths go into it as they are.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    UserError
        If a key is missing or wrong.
    """
    if out.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"`out={out}`: name a .yaml file")
    require_no_input(out, [published])
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
    try:
        return PublishedConfig.model_validate(content)
    except ValidationError as failure:
        raise UserError(f"{path}: {describe_faults(failure, PublishedConfig)}") from failure


def translate(config: PublishedConfig) -> tuple[dict[str, Any], list[str]]:
    """Return our settings, and what could not be taken over: ``key value: reason``."""
    method, name = config.method, nearest_microscope(config)
    microscope = presets[name]
    settings: dict[str, Any] = {"method": method, "optics": name, "data": _data(config, "train")}
    if config.val_dataset is not None:
        settings["validation"] = _data(config, "val")
    same = _SAME | (_PROJECTION if method == "serenet" else {})
    settings |= {ours: attrgetter(theirs)(config) for ours, theirs in same.items()}
    settings["psf"] = psf_file(config)
    settings["depths"] = fewer_depths(config, microscope)
    if method not in FAMILY:
        args = config.network_args
        settings["network"] = {k: v for k, v in args.items() if k not in _OF_OPTICS} or None
    noise = _noise(config)
    if method in BALANCED and config.bright_above is not None:
        settings["balance"] = {"epochs": Balance().epochs, "threshold": config.bright_above}
    if method != "twnet":
        settings["brightness"] = config.train_dataset.wrapper.args.rand_factor
        settings["noise"] = noise
    perceptual = config.loss_fns.perceptual_loss
    if method == "serenet" and (config.pixel_loss or perceptual) is not None:
        wanted = perceptual is not None and perceptual.name == PERCEPTUAL_LOSS
        settings["perceptual"] = {"weight": 1 if wanted else 0}
    steps = config.multi_step_lr
    if steps.milestones:
        schedule = {"kind": "steps", "milestones": steps.milestones, "gamma": steps.gamma}
        settings["schedule"] = schedule
    notes = [
        *optics_notes(config, name),
        *loss_notes(config, noise),
        *data_notes(config),
        *key_notes(config, microscope),
    ]
    return {ours: value for ours, value in settings.items() if value is not None}, notes


def _data(config: PublishedConfig, part: str) -> dict[str, Any]:
    args = attrgetter(f"{part}_dataset.dataset.args")(config)
    data = {
        "views": args.root_path_1 or args.root_path,
        "volumes": None if config.method in WITHOUT_VOLUMES else args.root_path_2,
        "first": args.first_k,
        "last": args.last_k,
        "repeat": args.repeat,
    }
    return {ours: value for ours, value in data.items() if value is not None}


def _noise(config: PublishedConfig) -> dict[str, Any]:
    args = config.train_dataset.wrapper.args
    mean, variance = args.RGN_noise or (0.0, 0.0)
    if args.RGN_noise is None and config.method == "serenet":
        # Ours adds the noise that the likelihood expects.
        expected = config.pixel_loss.arguments if config.pixel_loss is not None else {}
        mean, variance = expected.get("miu", Noise().mean), expected.get("var", Noise().variance)
    noise: dict[str, Any] = {"variance": variance, "mean": mean}
    return noise | ({"photons": args.RPN_noise} if args.RPN_noise else {})


def _one_line(text: str) -> str:
    """Return text that stays within a comment of one line, whatever it quotes."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
