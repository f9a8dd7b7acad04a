"""Reference pages, made of the commands and of the docstrings' places."""

import ast
import re
from collections.abc import Iterable
from enum import Enum, EnumType
from pathlib import Path
from typing import Any, get_args

import typer.main

ROOT = Path(__file__).parents[2]
PACKAGES = {"serenet": "packages/serenet", "tenet": "packages/tenet", "optics": "shared/optics"}


def command_page(name: str, app: typer.Typer) -> str:
    """Return the reference of a program: every command, its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = [f"# `{name}`\n\n{group.help}"]
    if group.invoke_without_command:
        parts.append(f"`{name}` alone tells where to begin.")
    for path, command in _commands(group, name):
        parts.append(f"## `{path}`\n\n{_described(command.help or '')}")
        rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            parts.append("\n".join(["| option | does | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(group: Any, path: str) -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        found.append((f"{path} {name}", command))
        if hasattr(command, "commands"):
            found += _commands(command, f"{path} {name}")
    return found


def _described(text: str) -> str:
    text = "\n".join(line.strip() for line in text.splitlines())
    # Written for terminals: **a command** is one.
    return re.sub(r"\*\*((?:serenet|tenet|datagen|torchrun) [^*]*)\*\*", r"`\1`", text)


def _row(parameter: Any) -> str:
    is_argument = parameter.param_type_name == "argument"
    names = str(parameter.name).upper() if is_argument else ", ".join(parameter.opts)
    kind = _choices(parameter)
    values = f" ({', '.join(kind)})" if kind else ""
    metavar = getattr(parameter, "metavar", None)
    names += f" {metavar}" if metavar and not is_argument else ""
    shown = parameter.show_default
    default = shown if isinstance(shown, str) else _plain(parameter.default)
    default = "needed" if parameter.required else default
    text = f"{parameter.help or ''}{values}"
    return "| " + " | ".join(_cell(part) for part in (f"`{names}`", text, default)) + " |"


def _choices(parameter: Any) -> list[str]:
    """Return what an option may be, if it is one of a few words."""
    described = getattr(parameter, "type_descriptor", None)
    annotation = getattr(described, "annotation", None)
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, EnumType):
            members: Iterable[Enum] = kind.__members__.values()
            return [str(member.value) for member in members]
    return []


def _plain(value: Any) -> str:
    if value is None or value is False or callable(value) or value == ():
        return ""
    return str(getattr(value, "value", value))


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def api_page(package: str) -> str:
    """Return the reference of what a package offers in Python, by the modules that hold it."""
    homes: dict[str, list[str]] = {}
    for name, home in homes_of(package).items():
        homes.setdefault(home, []).append(name)
    parts = [f"# {package} in Python\n\nAll names are there as `{package}.NAME`."]
    for home, names in homes.items():
        parts.append(f"## {home.rpartition('.')[2].replace('_', ' ').capitalize()}")
        parts += [f"::: {home}.{name}" for name in names]
    return "\n\n".join(parts) + "\n"


def homes_of(package: str) -> dict[str, str]:
    """Return the module that holds each public name: from a table ``_HOMES``, or from imports."""
    file = ROOT / PACKAGES[package] / "src" / package / "__init__.py"
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            (target,) = node.targets if isinstance(node, ast.Assign) else (node.target,)
            if isinstance(target, ast.Name) and target.id == "_HOMES":
                return dict(ast.literal_eval(node.value))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {a.name: node.module for node in imports for a in node.names if node.module}
