"""YAML files: settings read with clear errors, and the resolved ones saved beside results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from scopekit.errors import UserError
from scopekit.outputs import whole_file


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping; raise `UserError` if it is not one."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UserError(f"{path}: cannot be read ({failure.strerror}); check the path") from failure
    except (yaml.YAMLError, UnicodeDecodeError) as failure:
        detail = " ".join(str(failure).split())
        raise UserError(f"{path}: not valid YAML ({detail})") from failure
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected 'name: value' lines, found {type(content).__name__}")
    return content


def write_yaml(path: Path, content: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write ``content`` as YAML, in its own order."""
    with whole_file(path, overwrite=overwrite) as partial:
        text = yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)
        partial.write_text(text, encoding="utf-8")
