"""The report of an evaluation: one HTML page that needs no other file; and its table as text."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tenet.evaluation.kinds import Kind
from tenet.objects.measurements import Statistics

if TYPE_CHECKING:
    from tenet.evaluation.run import Row

# Score to its heading and format.
_COLUMNS = {
    "volume_um3": ("volume (µm³)", ".3f"),
    "sphericity": ("sphericity", ".3f"),
    "z_xy_ratio": ("z / xy diameter", ".2f"),
    "iou": ("IoU", ".3f"),
    "mse": ("MSE", ".4f"),
    "bce": ("BCE", ".3f"),
    "volume_error": ("error of the volume", "+.1%"),
    "segmented_fraction": ("segmented", ".2%"),
    "objects": ("objects", ".1f"),
    "reconstruction_mse": ("MSE of the reconstruction", ".2e"),
}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1d2430; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .3rem .7rem; text-align: right; }
th { border-bottom: 2px solid #1d2430; font-weight: 600; vertical-align: bottom; }
td { border-bottom: 1px solid #d9dde3; font-variant-numeric: tabular-nums; }
td:first-child, th:first-child, dl { text-align: left; }
tr.best td { background: #f1f5fa; } tr.ideal td { color: #687384; font-style: italic; }
small { color: #687384; } img { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; } dd { margin: 0;
  overflow-wrap: anywhere; } dt { color: #687384; }
"""


def cell(score: str, found: Statistics) -> str:
    """Return ``mean ± half the 95 % confidence interval`` as text; ``-`` where there is no mean."""
    form = _COLUMNS[score][1]
    if math.isnan(found.mean):
        return "-"
    if math.isnan(found.ci95):
        return format(found.mean, form)
    return f"{found.mean:{form}} ± {found.ci95:{form.lstrip('+')}}"


def text_table(rows: "Sequence[Row]") -> str:
    """Return the table of an evaluation for a terminal."""
    scores = list(rows[0].summary)
    lines = [["method", "threshold", "n", *(_COLUMNS[score][0] for score in scores)]]
    for row in rows:
        mark = " (best)" if row.chosen == "best" else ""
        cells = [cell(score, row.summary[score]) for score in scores]
        number = str(row.summary[scores[0]].number)
        lines.append([row.method, f"{row.threshold:g}{mark}", number, *cells])
    widths = [max(len(line[n]) for line in lines) for n in range(len(lines[0]))]
    padded = (
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return "\n".join([*padded, *notes(rows)])


def notes(rows: "Sequence[Row]") -> list[str]:
    """Return what is to be known of rows, a line each."""
    return [f"{row.method}: {row.note}" for row in rows if row.note]


def report(
    kind: Kind, rows: "Sequence[Row]", settings: Mapping[str, Any], pictures: Mapping[str, bytes]
) -> str:
    """Return the page.

    Parameters
    ----------
    kind
        What was measured.
    rows
        The table.
    settings
        What to tell about how.
    pictures
        Heading to PNG, in the order shown.
    """
    objective = f" The best threshold is that of the {kind.objective}." if kind.objective else ""
    parts = [
        f"<title>tenet evaluate {kind.name}</title><style>{_STYLE}</style>",
        f"<h1>Evaluation: {kind.name}</h1>",
        _table(kind, rows),
        "<p><small>Mean ± half the 95 % confidence interval (Student's t), standard deviation "
        f"below; n: {'beads' if kind.name == 'beads' else 'images'}.{objective} "
        "Errors of the reconstruction are of its brightness fitted to the image.</small></p>",
        *(f"<p>{html.escape(note)}</p>" for note in notes(rows)),
    ]
    for name, content in pictures.items():
        data = base64.b64encode(content).decode()
        title = html.escape(name)
        parts.append(f'<h2>{title}</h2><img alt="{title}" src="data:image/png;base64,{data}">')
    told = "".join(
        f"<dt>{html.escape(str(key))}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in settings.items()
    )
    parts.append(f"<h2>Settings</h2><dl>{told}</dl>")
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><meta charset="utf-8">\n{body}\n</html>\n'


def _table(kind: Kind, rows: "Sequence[Row]") -> str:
    scores = list(rows[0].summary)
    head = "".join(f"<th>{_COLUMNS[score][0]}</th>" for score in scores)
    lines = [f"<tr><th>method</th><th>threshold</th><th>n</th>{head}</tr>"]
    for row in rows:
        best = row.chosen == "best"
        cells = ""
        for score in scores:
            found = row.summary[score]
            sd = "" if math.isnan(found.sd) else f"{found.sd:{_COLUMNS[score][1].lstrip('+')}}"
            cells += f"<td>{cell(score, found)}<br><small>{sd}</small></td>"
        lines.append(
            f"<tr{' class=best' if best else ''}><td>{row.method}</td>"
            f"<td>{row.threshold:g}{' (best)' if best else ''}</td>"
            f"<td>{row.summary[scores[0]].number}</td>{cells}</tr>"
        )
    if kind.objective:
        ideal = "".join(
            f"<td>{kind.lines[s]:{_COLUMNS[s][1].lstrip('+')}}</td>"
            if s in kind.lines
            else "<td></td>"
            for s in scores
        )
        lines.append(f"<tr class=ideal><td>ideal</td><td></td><td></td>{ideal}</tr>")
    return f"<table>{''.join(lines)}</table>"
