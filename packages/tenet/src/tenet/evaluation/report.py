"""The report of an evaluation: one HTML page that needs no other file."""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tenet.evaluation.kinds import Kind
from tenet.evaluation.scores import SCORES, Row
from tenet.evaluation.tables import cell, notes

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


def report(
    kind: Kind, rows: Sequence[Row], settings: Mapping[str, Any], pictures: Mapping[str, bytes]
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
        f"below; n: {kind.counted}.{objective} "
        "Errors of the reconstruction are of its gain and offset fitted to the image.</small></p>",
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


def _table(kind: Kind, rows: Sequence[Row]) -> str:
    scores = list(rows[0].summary)
    head = "".join(f"<th>{SCORES[score].heading}</th>" for score in scores)
    lines = [f"<tr><th>method</th><th>threshold</th><th>n</th>{head}</tr>"]
    for row in rows:
        cells = ""
        for score in scores:
            found = row.summary[score]
            sd = "" if math.isnan(found.sd) else SCORES[score].text(found.sd)
            cells += f"<td>{cell(score, found)}<br><small>{sd}</small></td>"
        lines.append(
            f"<tr{' class=best' if row.is_best else ''}><td>{row.method}</td>"
            f"<td>{row.threshold:g}{' (best)' if row.is_best else ''}</td>"
            f"<td>{row.summary[scores[0]].number}</td>{cells}</tr>"
        )
    if kind.objective:
        ideals = (SCORES[s].text(kind.ideals[s]) if s in kind.ideals else "" for s in scores)
        cells = "".join(f"<td>{ideal}</td>" for ideal in ideals)
        lines.append(f"<tr class=ideal><td>ideal</td><td></td><td></td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"
