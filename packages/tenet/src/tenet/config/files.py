"""Configurations: one JSON file a run, in the published schema, checked before anything runs."""

import json
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from optics.plausibility import implausible
from scopekit.errors import Page, UserError
from scopekit.settings import describe_faults, find_config, read_json
from tenet.config.kinds import Section
from tenet.config.loops import PretrainLoop, TrainLoop
from tenet.config.sections import (
    LabelCrops,
    Params,
    PhantomNumbers,
    Scenes,
    StackCrops,
    TestDataset,
    Vibration,
    Visualization,
)

# Configurations and weights that come with the package.
SHIPPED = Path(__file__).parents[1] / "shipped"
S = TypeVar("S", bound=Section)


class Config(Section):
    """A configuration; the sections that a command does not need may be missing."""

    name: Annotated[str, Field(description="a text")] = ""
    explanation: Annotated[str | None, Field(description="a text")] = None
    pretrained_model: Annotated[
        str, Field(pattern=r"^[^/\\]+$", description="a file's stem, without a folder")
    ]
    params: Params
    align_model: Annotated[str | None, Field(description="a file's stem, or null")] = None
    align_params: Annotated[Any, Field(description="anything; this key is not used")] = None
    pretrain_dataset: LabelCrops | None = None
    pretrain_val_dataset: LabelCrops | None = None
    pretrain_loop: PretrainLoop | None = None
    scenes: Scenes | None = None
    simulation_data_generation: PhantomNumbers | None = None
    train_dataset: StackCrops | None = None
    val_dataset: StackCrops | None = None
    test_dataset: TestDataset = TestDataset()
    vibration: Vibration = Vibration()
    train_loop: TrainLoop | None = None
    visualization: Visualization = Visualization()

    @model_validator(mode="after")
    def _check(self) -> "Config":
        for name, value in self.params:
            fault = implausible(name, value)
            if fault:
                raise ValueError(fault)
        for name in ("pretrain_dataset", "pretrain_val_dataset", "train_dataset", "val_dataset"):
            data = getattr(self, name)
            if data is not None and data.scale != self.params.scale:
                raise ValueError(
                    f"{name}.scale is {data.scale}; allowed: that of params ({self.params.scale})"
                )
        if self.scenes is not None and self.scenes.cropsize[0] % self.params.scale:
            raise ValueError(
                f"scenes.cropsize is {list(self.scenes.cropsize)}; allowed: Z a multiple of scale "
                f"({self.params.scale})"
            )
        for name, train in (("train_dataset", True), ("val_dataset", False)):
            data = getattr(self, name)
            if data is not None and data.train is not train:
                raise ValueError(
                    f"{name}.train is {str(data.train).lower()}; allowed: {str(train).lower()}"
                )
        return self

    def section(self, name: str, kind: type[S]) -> S:
        """Return a section, which must be there."""
        found = getattr(self, name)
        if found is None:
            raise UserError(
                f"{self.name}.json: the section {name} is missing; add it", page=Page.configuration
            )
        assert isinstance(found, kind)
        return found

    @property
    def told_visualization(self) -> Visualization | None:
        """The section ``visualization``, where there is one."""
        return self.visualization if "visualization" in self.model_fields_set else None

    def labels(self, name: str) -> LabelCrops:
        """Return a section of labels, its ``scale`` that of their images: 1 without ``superres``.

        Images have the labels' planes then, see `tenet.microscope.model.sampling`.
        """
        data = self.section(name, LabelCrops)
        return data if self.params.superres else data.model_copy(update={"scale": 1})


def load_config(path_or_name: str | Path) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path_or_name
        A JSON file, or NAME for ``experiments/configs/NAME.json``, or of one that ships (demo).

    Raises
    ------
    UserError
        Naming every wrong section and key, its value and what is allowed.

    Examples
    --------
    >>> import tenet
    >>> config = tenet.load_config("demo")
    >>> config.pretrained_model, config.params.res_lateral
    ('demo_pretrain', 0.2)
    """
    path = find_config(path_or_name, "tenet")
    content = {**_without_comments(read_json(path)), "name": path.stem}
    try:
        # Its JSON mode takes lists for tuples, and no text for a number.
        return Config.model_validate_json(json.dumps(content))
    except ValidationError as failure:
        raise UserError(
            f"{path}: {describe_faults(failure, Config)}", page=Page.configuration
        ) from failure


def as_config(config: Config | str | Path) -> Config:
    """Return a configuration that is given, or that of a path or name, see `load_config`."""
    return config if isinstance(config, Config) else load_config(config)


def _without_comments(content: Any) -> Any:
    """Return the content without the keys that have a ``$`` in them."""
    if isinstance(content, dict):
        return {k: _without_comments(v) for k, v in content.items() if "$" not in k}
    return content
