"""The section ``simulation_data_generation`` of a TENET configuration (JSON)."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from datagen.labels.sets import PUBLISHED_VOXEL_UM
from scopekit.errors import UserError
from scopekit.images.files import VoxelSize
from scopekit.settings import read_json

SECTION = "simulation_data_generation"

_Count = Annotated[int, Field(strict=True, ge=0)]
_Length = Annotated[int, Field(strict=True, ge=1)]


class SimulationConfig(BaseModel):
    """How many phantoms to make, how large, and how crowded.

    Attributes
    ----------
    dataset_name
        Folder of the data set.
    train_num, valid_num
        Phantoms to train with, and to validate with, numbered one after the other.
    image_size
        (Z, Y, X) of each, in voxels of the labels.
    train_object_num_max, train_object_num_min, valid_object_num_max, valid_object_num_min
        Objects in the first phantom, and the number towards which the others go down.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset_name: Annotated[
        str,
        Field(
            strict=True,
            pattern=r"^[^/\\\s.][^/\\\n]*$",
            description="a folder name, without slashes and without a dot or space in front",
        ),
    ]
    train_num: Annotated[_Count, Field(description="a whole number, 0 or more")]
    valid_num: Annotated[_Count, Field(description="a whole number, 0 or more")]
    image_size: Annotated[
        tuple[_Length, _Length, _Length],
        Field(description="three whole numbers [Z, Y, X], each 1 or more"),
    ]
    train_object_num_min: Annotated[_Count, Field(description="a whole number, 0 or more")]
    train_object_num_max: Annotated[
        _Count, Field(description="a whole number, train_object_num_min or more")
    ]
    valid_object_num_min: Annotated[_Count, Field(description="a whole number, 0 or more")]
    valid_object_num_max: Annotated[
        _Count, Field(description="a whole number, valid_object_num_min or more")
    ]


def read_simulation_config(path: Path) -> SimulationConfig:
    """Read the section of a JSON file; keys with a ``$`` in them are comments.

    Raises
    ------
    UserError
        Naming the section, the key, its value and what is allowed.
    """
    section = _read_section(path)
    try:
        config = SimulationConfig.model_validate(section)
    except ValidationError as failure:
        raise UserError(f"{path}: {_describe(failure, section)}") from failure
    for kind in ("train", "valid"):
        fewest, most = (getattr(config, f"{kind}_object_num_{end}") for end in ("min", "max"))
        if most < fewest:
            key = f"{kind}_object_num_max"
            raise UserError(f"{path}: {_fault(key, section)} (which is {fewest})")
    if config.train_num + config.valid_num == 0:
        raise UserError(
            f"{path}: {SECTION}.train_num and {SECTION}.valid_num: both are 0; allowed: one of "
            "them 1 or more"
        )
    return config


def read_voxel_um(path: Path) -> VoxelSize:
    """Return the (z, y, x) step of the labels that the section params of a JSON file tells, um.

    Where it tells none, that of the published configurations.
    """
    params = read_json(path).get("params")
    keys = ("res_axial", "scale", "res_lateral")
    found: list[Any] = [params.get(key) for key in keys] if isinstance(params, dict) else []
    told = [float(n) for n in found if isinstance(n, int | float) and n > 0]
    if len(told) != len(keys):
        return PUBLISHED_VOXEL_UM
    axial, scale, lateral = told
    return axial / scale, lateral, lateral


def _read_section(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if SECTION not in content:
        raise UserError(f"{path}: the section {SECTION} is missing; add it to make phantoms")
    section = content[SECTION]
    if not isinstance(section, dict):
        raise UserError(f"{path}: {SECTION}: {section!r}; allowed: a section {{...}} of keys")
    return {key: value for key, value in section.items() if "$" not in key}


def _describe(failure: ValidationError, section: dict[str, Any]) -> str:
    """Return all faults in one line, each key once."""
    keys = dict.fromkeys(str(error["loc"][0]) for error in failure.errors())
    return "; ".join(_fault(key, section) for key in keys)


def _fault(key: str, section: dict[str, Any]) -> str:
    fields = SimulationConfig.model_fields
    if key not in fields:
        return f"{SECTION}.{key}: {section[key]!r}: unknown key; allowed: {', '.join(fields)}"
    found = repr(section[key]) if key in section else "missing"
    return f"{SECTION}.{key}: {found}; allowed: {fields[key].description}"
