"""What the site is made of besides its files: see mkdocs.yml."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parents[1]))

from pages.gallery import example_page, example_scripts, gallery, notebook
from pages.reference import PACKAGES, api_page, command_page

_FORMULA = re.compile(r"\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.DOTALL)
_SCRIPT = re.compile(r"\]\(examples/(\w+)\.py\)")
_CODE = re.compile(r"(```.*?```|`[^`]*`)", re.DOTALL)
_INLINE_CODE = re.compile(r"<code>[^<]*</code>")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")


def on_config(config: Any) -> Any:
    """List the examples in the navigation."""
    for section in config["nav"]:
        if "Examples" in section:
            section["Examples"] += [f"examples/{s.stem}.md" for s in example_scripts()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that no file holds."""
    for name, text in generated().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn formulas into MathML, which browsers draw by themselves, and scripts into their pages.

    In the repository the links lead to the scripts.
    """
    markdown = _SCRIPT.sub(r"](examples/\1.md)", markdown)
    if "$" not in markdown:
        return markdown
    parts = _CODE.split(markdown)
    return "".join(part if n % 2 else _FORMULA.sub(_mathml, part) for n, part in enumerate(parts))


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Keep the lines of a page from breaking within the name of an option."""
    return _INLINE_CODE.sub(
        lambda code: _OPTION.sub(r'<span class="option">\g<0></span>', code[0]), html
    )


def _mathml(formula: re.Match[str]) -> str:
    from latex2mathml.converter import convert

    block = formula["block"]
    if block is None:
        # A line that began with <math> would be taken for a block.
        return f"<span>{convert(formula['inline'])}</span>"
    return f'<div class="formula">{convert(block.strip(), display="block")}</div>'


def generated() -> dict[str, str]:
    """Return all pages by their names."""
    from datagen.cli import app as datagen
    from serenet.cli import app as serenet
    from tenet.cli.app import app as tenet

    programs = {"serenet": serenet, "tenet": tenet, "datagen": datagen}
    pages = {f"reference/{name}.md": command_page(name, app) for name, app in programs.items()}
    pages |= {f"examples/{s.stem}.md": example_page(s) for s in example_scripts()}
    pages |= {f"examples/{s.stem}.ipynb": notebook(s) for s in example_scripts()}
    pages |= {f"api/{name}.md": api_page(name) for name in PACKAGES}
    pages["examples/index.md"] = gallery()
    return pages
