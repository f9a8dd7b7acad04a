"""The settings of a training run: YAML files, checked, and the presets that ship."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, ValidationError, model_validator

from scopekit.errors import Page, UserError
from scopekit.settings import describe_faults, read_yaml
from scopekit.training.recipe import Loop, Precision
from serenet.training.sections import (
    Balance,
    Count,
    Data,
    Losses,
    Noise,
    Perceptual,
    Rate,
    Schedule,
    Section,
    Teacher,
    Weight,
    rate_factor,
)

Method = Literal["serenet", "renet", "fserenet", "vcdnet", "hylfmnet", "rlnet", "vsnet", "twnet"]
FAMILY = ("serenet", "renet", "fserenet")
# Learn from light fields alone.
_WITHOUT_VOLUMES = ("serenet", "vsnet", "twnet")
# Have a loss of their own in the first epochs.
BALANCED = ("vcdnet", "hylfmnet")
SMALLEST_CROP = 8
_PRESETS = "training/presets"

_FAST = {  # what the fast recipe learns with, unless told otherwise
    "perceptual": {"weight": 0},
    "optimizer": "muon",
    "learning_rate": 0.004,
    "schedule": {"kind": "cosine", "warmup_epochs": 0.2},
    "clip_norm": 1.0,
    "precision": "auto",
    "noise": {"variance": 9, "photons": [60, 1000]},
    "crop": 36,
    "crop_depths": 41,
}


class TrainingSettings(Section):
    """A training run.

    Attributes
    ----------
    recipe
        ``fast``, for the SeReNet family: targets are volumes, true or deconvolved ones; minutes on
        a CPU. ``published``: as in the paper; days.
    method
        ``serenet``: self-supervised, from light fields alone. ``renet``: the same network
        supervised by volumes. ``fserenet``: a trained serenet, fine-tuned axially on volumes.
        ``vcdnet``, ``hylfmnet``, ``rlnet``: other networks, supervised by volumes. ``vsnet``:
        virtual scanning, from scanned light fields alone. ``twnet``: motion correction, from
        light fields scanned while the sample moved.
    optics
        The microscope: name of a preset, or its YAML file. The key may be ``microscope`` too.
    depths
        Keep so many planes around the middle of the microscope's range; default: all.
    psf
        PSF file from ``serenet psf``; left out: computed.
    psf_size
        Lateral support of the computed PSF in volume pixels; default: what the views need.
    data, validation
        What to learn from, and what to judge by; without ``validation``, the training data.
    also
        More to learn from, a list; for the fast recipe.
    network
        Published constructor arguments of the network, where they are not to be the published
        ones: ``{channels_interp: 64}`` for vcdnet, ``{K: 2, channels: 32}`` for vsnet,
        ``{channels: [8, 8, 16]}`` for twnet.
    start_from
        Checkpoint, or the name of shipped weights; fserenet needs a serenet.
    crop
        Side of the light fields' crops, view pixels.
    crop_depths
        With the fast recipe, crops hold so many of the depths; default: all.
    losses, teacher
        Of the fast recipe; default: ``volume`` where the data have volumes, else ``teacher``.
    brightness
        Least random factor of a crop's brightness; the largest is 1.
    noise
        Added to what the network sees.
    projected_views
        Views that are projected and compared in a step, drawn at random.
    central_view
        Whether the central view is always among them.
    perceptual
        The perceptual loss, for serenet.
    balance
        Of the first epochs of vcdnet and hylfmnet.
    negativity
        Weight of negative values in the volume, for serenet and renet.
    optimizer, learning_rate, schedule, clip_norm
        How to learn.
    epochs, batch_size, accumulate
        An epoch visits every light field ``data.repeat`` times; a step takes ``batch_size``
        crops a process, ``accumulate`` times over.
    precision
        Of the network; float16 for CUDA; auto: the faster of float32 and bfloat16 on this machine.
    validate_every, save_every
        Epochs.
    seed
        Of all random numbers.
    """

    recipe: Literal["fast", "published"] = "published"
    method: Method
    optics: str = Field(validation_alias=AliasChoices("optics", "microscope"))
    depths: Count | None = None
    psf: Path | None = None
    psf_size: Annotated[int, Field(ge=3)] | None = None
    data: Data
    also: tuple[Data, ...] = ()
    validation: Data | None = None
    network: dict[str, int | list[int]] = Field(default_factory=dict)
    start_from: str | None = None
    crop: Annotated[int, Field(ge=SMALLEST_CROP)] = 99
    crop_depths: Annotated[int, Field(ge=8)] | None = None
    brightness: Annotated[float, Field(gt=0, le=1)] = 0.1
    noise: Noise = Noise()
    projected_views: Count = 13
    central_view: bool = False
    losses: Losses = Losses()
    teacher: Teacher = Teacher()
    perceptual: Perceptual = Perceptual()
    balance: Balance | None = None
    negativity: Weight = 1000.0
    optimizer: Literal["adam", "sgd", "muon"] = "adam"
    learning_rate: Rate = 1e-4
    schedule: Schedule = Schedule()
    clip_norm: Rate | None = None
    epochs: Count = 800
    batch_size: Count = 1
    accumulate: Count = 1
    precision: Precision | Literal["auto"] = "float32"
    validate_every: Count = 10
    save_every: Count = 100
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _take_defaults(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("recipe") != "fast":
            return given
        paired = [
            isinstance(source, dict) and not {"volumes", "simulated"}.isdisjoint(source)
            for source in (given.get("data"), *(given.get("also") or ()))
        ]
        losses = {"volume": float(any(paired)), "teacher": float(not all(paired))}
        return {**_FAST, "losses": losses, **given}

    @model_validator(mode="after")
    def _check(self) -> "TrainingSettings":
        if self.recipe == "fast":
            self._check_fast()
        elif self.also:
            raise ValueError("also: the published recipe learns from data alone; leave it out")
        if self.psf is not None and not (self.depths is None and self.psf_size is None):
            raise ValueError(
                "psf: the file has its own depths and size; leave out one or the other"
            )
        if self.method == "fserenet" and self.start_from is None:
            raise ValueError("start_from is missing: fserenet starts from a trained serenet")
        if self.balance is not None and self.method not in BALANCED:
            raise ValueError(f"balance: for {', '.join(BALANCED)}; {self.method} has no such loss")
        if self.method in FAMILY and self.network:
            raise ValueError(f"network: {self.method} follows from the optics; leave it out")
        if self.needs_volumes:
            for name, data in (("data", self.data), ("validation", self.validation)):
                if self.recipe != "fast" and data and data.views and not data.volumes:
                    raise ValueError(
                        f"{name}.volumes is missing: {self.method} learns from volumes"
                    )
        return self

    def _check_fast(self) -> None:
        if self.method not in FAMILY:
            raise ValueError(
                f"recipe: fast is for {', '.join(FAMILY)}; {self.method} takes published"
            )
        if not self.noise.photons:
            raise ValueError("noise.photons: give the lowest and the highest peak to learn for")
        weights = self.losses
        if not (weights.volume or weights.teacher or weights.likelihood or self.perceptual.weight):
            raise ValueError("losses: all weights are 0; give at least one of them")
        projects = weights.likelihood or self.perceptual.weight
        untold = any(d.views and not d.volumes for d in self.sources)
        taught_by_volumes = weights.volume or (weights.teacher and self.teacher.everywhere)
        if any(d.volumes or d.simulated for d in self.sources) and not (
            taught_by_volumes or projects
        ):
            raise ValueError(
                "losses: nothing compares light fields that have volumes; give volume a weight, "
                "or set teacher.everywhere"
            )
        if untold and not (weights.teacher or projects):
            raise ValueError(
                "data.volumes is missing: give them, or a weight to losses.teacher or likelihood"
            )
        if projects and self.crop_depths is not None:
            raise ValueError(
                "crop_depths: likelihood and perceptual project whole depths; set it to null"
            )

    @property
    def sources(self) -> tuple[Data, ...]:
        """All that is learned from."""
        return (self.data, *self.also)

    @property
    def needs_volumes(self) -> bool:
        """Whether the method is taught by volumes."""
        if self.recipe == "fast":
            return self.losses.volume > 0
        return self.method not in _WITHOUT_VOLUMES

    def loop(self) -> Loop:
        """Return what the training loop wants to know."""
        return Loop(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            schedule=rate_factor(self.schedule, self.epochs),
            optimizer=self.optimizer,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            clip_norm=self.clip_norm,
            precision="float32" if self.precision == "auto" else self.precision,
            validate_every=self.validate_every,
            save_every=self.save_every,
            seed=self.seed,
        )


def shipped_settings() -> dict[str, Path]:
    """Return the presets that ship: name to file."""
    folder = Path(str(files("serenet") / _PRESETS))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_settings(name_or_file: str, microscope: str | None = None) -> TrainingSettings:
    """Read a training YAML, or a preset that ships; for another microscope if one is named.

    Raises
    ------
    UserError
        Naming every wrong, missing or unknown key.
    """
    shipped = shipped_settings()
    path = shipped.get(name_or_file, Path(name_or_file))
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(
            f"'{name_or_file}' is neither a preset ({', '.join(shipped)}) nor a .yaml file"
        )
    content = read_yaml(path)
    content.pop("version", None)  # the settings of a run tell it
    if microscope is not None:
        # A run is the same wherever it is resumed from.
        own = Path(microscope)
        content["optics"] = str(own.resolve()) if own.is_file() else microscope
    return parse_settings(path, content)


def parse_settings(path: Path, content: dict[str, Any]) -> TrainingSettings:
    """Check settings read from ``path``; `UserError` names every fault."""
    try:
        return TrainingSettings.model_validate(content)
    except ValidationError as failure:
        raise UserError(
            f"{path}: {describe_faults(failure, TrainingSettings)}", page=Page.training_settings
        ) from failure
