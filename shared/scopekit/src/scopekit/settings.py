"""Settings files: read with clear errors, and the resolved ones saved beside results."""

import importlib.util
import json
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from scopekit.errors import Page, UserError
from scopekit.outputs import whole_file

CONFIG_FOLDER = Path("experiments/configs")
_SHORT = reprlib.Repr()
_SHORT.maxstring = 200

Model = TypeVar("Model", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; raise `UserError` if it is not one."""
    try:
        content = yaml.load(_read_text(path), _EachKeyOnce)
    except (yaml.YAMLError, ValueError, RecursionError) as failure:
        detail = " ".join(str(failure).split())
        raise UserError(f"{path}: not valid YAML ({detail})") from failure
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'name: value' lines, found {_kind(content)}")
    return content


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is an object; raise `UserError` if it is not one."""
    try:
        content = json.loads(_read_text(path), object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as failure:
        raise UserError(f"{path}: not valid JSON ({failure})") from failure
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object {{...}}, found {_kind(content)}")
    return content


def find_config(path_or_name: str | Path, package: str) -> Path:
    """Return the file of a configuration (JSON).

    Parameters
    ----------
    path_or_name
        Its path; or NAME for ``experiments/configs/NAME.json``, or of one that ships.
    package
        With which it may ship, see `shipped_configs`.

    Raises
    ------
    UserError
        If there is no such file.
    """
    path, name = Path(path_or_name), str(path_or_name)
    if path.is_file():
        return path
    if path.name != name or path.suffix == ".json":
        raise UserError(f"{path}: no such file; give the path of a JSON file or a model's name")
    named, shipped = CONFIG_FOLDER / f"{name}.json", shipped_configs(package)
    if named.is_file():
        return named
    if name in shipped:
        return shipped[name]
    ship = f", nor one that ships ({', '.join(shipped)})" if shipped else ""
    raise UserError(
        f"{name}: no such file, nor {named}{ship}; give the path of a JSON file or a model's name"
    )


def shipped_configs(package: str) -> dict[str, Path]:
    """Return the configurations (JSON) in the folder ``shipped`` of a package: name to file.

    None where it is not installed.
    """
    found = importlib.util.find_spec(package)
    places = (found.submodule_search_locations if found else None) or ()
    files = [path for place in places for path in Path(place, "shipped").glob("*.json")]
    return {path.stem: path for path in sorted(files)}


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a mapping that has a key twice: one would be lost."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        names = [(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _each_once(names)
        return node


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raise `ValueError` if it has a key twice: one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return found


def _kind(content: Any) -> str:
    kinds = {"NoneType": "nothing", "list": "a list", "str": "a text"}
    return kinds.get(type(content).__name__, "a number")


def _read_text(path: Path) -> str:
    try:
        # Some editors of Windows begin files with a mark of their encoding.
        return path.read_text(encoding="utf-8-sig")
    except OSError as failure:
        raise UserError(f"{path}: cannot be read ({failure.strerror}); check the path") from failure


def write_yaml(path: Path, content: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write ``content`` as YAML, in its own order."""
    with whole_file(path, overwrite=overwrite) as partial:
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
        partial.write_text(text, encoding="utf-8")


def read_settings(path: Path, model: type[Model], page: Page | None = None) -> Model:
    """Read a YAML file that describes a ``model``; `UserError` names every fault, and a page."""
    try:
        return model.model_validate(read_yaml(path))
    except ValidationError as failure:
        raise UserError(f"{path}: {describe_faults(failure, model)}", page=page) from failure


def read_named_settings(
    name_or_file: str, presets: Mapping[str, Model], model: type[Model], page: Page | None = None
) -> Model:
    """Return the preset of that name, or what a YAML file describes.

    Parameters
    ----------
    name_or_file
        Name, or path.
    presets
        What has a name.
    model
        What the file describes.
    page
        Which tells more of such files.

    Raises
    ------
    UserError
        If it is neither, or the file has faults: naming every one.
    """
    if name_or_file in presets:
        return presets[name_or_file]
    path = Path(name_or_file)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(
            f"'{name_or_file}' is neither a preset ({', '.join(presets)}) nor a .yaml file",
            page=page,
        )
    return read_settings(path, model, page)


def describe_faults(failure: ValidationError, model: type[BaseModel]) -> str:
    """Return one line that names every wrong key, its value, and what is allowed.

    What is allowed is the description of the key, where it has one, else pydantic's words.
    """
    lines: dict[str, str] = {}
    for error in failure.errors():
        place = tuple(error["loc"])
        fields = _fields_beside(place, model)
        # Where several types are allowed, pydantic names each; the key tells enough.
        depth = 1 + _depth_of_key(place, model)
        where = ".".join(str(part) for part in place)
        field = fields.get(str(place[depth - 1])) if place and depth <= len(place) else None
        if error["type"] == "extra_forbidden":
            text = f"unknown key; known are {', '.join(fields)}"
        elif error["type"] == "missing" and depth == len(place):
            text = "missing" + _allowed(field)
        else:
            if field is not None and field.description:
                where = ".".join(str(part) for part in place[:depth])
                text = _allowed(field).removeprefix("; ")
            else:
                text = error["msg"].removeprefix("Value error, ")
                if error["type"] == "model_type":
                    text = "expected 'name: value' lines"
            if text.startswith(f"{where} is "):  # names key and value itself
                lines.setdefault(where, text)
                continue
            if not isinstance(error["input"], dict):
                text += f" (now {_SHORT.repr(error['input'])})"
        lines.setdefault(where, f"{where}: {text}" if where else text)
    return "; ".join(lines.values())


def _allowed(field: FieldInfo | None) -> str:
    return f"; allowed: {field.description}" if field is not None and field.description else ""


def _depth_of_key(place: tuple[int | str, ...], model: type[BaseModel]) -> int:
    """Return how many parts of ``place`` are sections, before the key."""
    for depth, part in enumerate(place):
        inner = _section(model, str(part))
        if inner is None:
            return depth
        model = inner
    return max(len(place) - 1, 0)


def _fields_beside(place: tuple[int | str, ...], model: type[BaseModel]) -> dict[str, FieldInfo]:
    for part in place[:-1]:
        inner = _section(model, str(part))
        if inner is None:
            break
        model = inner
    return model.model_fields


def _section(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Return the model of the section ``key``, ``None`` where it is a value."""
    field = model.model_fields.get(key)
    if field is None:
        return None
    candidates = (field.annotation, *getattr(field.annotation, "__args__", ()))
    inner = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)]
    return inner[0] if inner else None
