"""One evaluation: methods applied to images, scores, tables, pictures and the report."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scopekit.errors import UserError
from scopekit.outputs import require_new, require_writable, whole_file
from scopekit.progress import progress_bar
from scopekit.settings import write_yaml
from tenet.config.sections import Visualization
from tenet.evaluation.kinds import Kind, Record, Summary, best_threshold
from tenet.evaluation.methods import TENET, Methods, Sample
from tenet.evaluation.pictures import draw_results, draw_sweep
from tenet.evaluation.report import report

THRESHOLDS = (0.01, 0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_LARGEST_IN_REPORT = 12  # pictures
_STEPS = 100  # of the progress bar, for a method

ByThreshold = dict[float, list[Record]]


@dataclass(frozen=True)
class Row:
    """Scores of a method at a threshold.

    Attributes
    ----------
    method, threshold
        Of what.
    chosen
        ``given``, or ``best`` for the threshold that the evaluation found best.
    summary
        The scores.
    note
        What is to be known of them, if anything.
    """

    method: str
    threshold: float
    chosen: str
    summary: Summary
    note: str = ""


@dataclass(frozen=True)
class Outputs:
    """Where results go.

    Attributes
    ----------
    folder, overwrite
        Where, and whether earlier results may be replaced.
    settings
        To be told in the report and in ``KIND.yaml``.
    psf
        Picture of the PSF.
    visualization
        What is projected in pictures.
    """

    folder: Path
    overwrite: bool
    settings: Mapping[str, Any]
    psf: Figure
    visualization: Visualization | None = None


def evaluate(
    kind: Kind,
    methods: Methods,
    samples: Iterable[Sample],
    number: int,
    threshold: float,
    outputs: Outputs,
) -> list[Row]:
    """Evaluate methods on images, and write tables, pictures and a report.

    In the folder, for a kind of evaluation: ``KIND_scores.csv`` (a row for each method and
    threshold), ``KIND_images.csv`` and ``KIND_objects.csv`` (every image, every object, at the
    thresholds of the report), ``KIND_IMAGE.png``, ``KIND_psf.png``, ``KIND_thresholds.png`` where
    there is a truth, ``KIND_report.html``, which shows all of it, and ``KIND.yaml``. Nothing is
    written before everything is measured.

    Parameters
    ----------
    kind
        What to measure.
    methods
        What to try.
    samples, number
        Images, and how many.
    threshold
        What counts as structure.
    outputs
        Where results go.

    Returns
    -------
    list of Row
        Every method, at the given threshold, and at its best one where there is a truth.
    """
    folder, name = outputs.folder, kind.name
    for part in (f"{name}_report.html", f"{name}_scores.csv", f"{name}.yaml"):
        require_new(folder / part, overwrite=outputs.overwrite)
    require_writable(folder)
    thresholds = sorted({*THRESHOLDS, threshold}) if kind.objective else [threshold]
    records: dict[str, ByThreshold] = {m: {t: [] for t in thresholds} for m in methods.names}
    pictures: dict[str, bytes] = {}
    total = number * len(methods.names) * _STEPS
    with progress_bar(f"evaluating {name}", total) as advance:
        for sample in samples:
            results = []
            for result in methods.apply(sample, _Steps(advance)):
                errors = kind.errors(result)
                for t in thresholds:
                    record = kind.measure(result, t, errors)
                    records[result.method][t].append(record)
                results.append(result)
            figure = draw_results(results, threshold, outputs.visualization)
            pictures[f"{name}_{sample.name}.png"] = _png(figure)
    if not pictures:
        raise UserError("no image to evaluate; give one or more")
    settings = {**outputs.settings, "images": len(pictures)}

    summaries = {
        method: {t: kind.summarise(found) for t, found in by_threshold.items()}
        for method, by_threshold in records.items()
    }
    best = {method: best_threshold(kind, scores) for method, scores in summaries.items()}
    rows = []
    for method, scores in summaries.items():
        note = _why_none(scores[threshold], threshold, records[method][threshold])
        rows.append(Row(method, threshold, "given", scores[threshold], note))
        found = best[method]
        if found is not None:
            note = _at_the_end(method, kind) if found in (thresholds[0], thresholds[-1]) else ""
            rows.append(Row(method, found, "best", scores[found], note))
    shown = dict(list(pictures.items())[:_LARGEST_IN_REPORT])
    headed = {Path(file).stem.removeprefix(f"{name}_"): png for file, png in shown.items()}
    others = {f"{name}_psf.png": _png(outputs.psf)}
    headed = {**headed, "PSF": others[f"{name}_psf.png"]}
    if kind.objective:
        sweep = _png(draw_sweep(summaries, best, kind.lines))
        others[f"{name}_thresholds.png"] = sweep
        headed = {"Scores over the threshold": sweep, **headed}
    files: dict[str, str | bytes] = {
        **pictures,
        **others,
        f"{name}_scores.csv": _scores_table(summaries, best),
        f"{name}_images.csv": _images_table(records, rows),
        f"{name}_report.html": report(kind, rows, settings, headed),
    }
    objects = _objects_table(records, rows)
    if objects:
        files[f"{name}_objects.csv"] = objects
    for file in files:
        require_new(folder / file, overwrite=outputs.overwrite)
    write_yaml(folder / f"{name}.yaml", settings, overwrite=outputs.overwrite)
    for file, content in files.items():
        with whole_file(folder / file, overwrite=outputs.overwrite) as partial:
            partial.write_bytes(content if isinstance(content, bytes) else content.encode())
    return rows


def _why_none(summary: Summary, threshold: float, records: Sequence[Record]) -> str:
    """Return why there is nothing in a row; nothing if there is something."""
    if next(iter(summary.values())).number:
        return ""
    left_out = sum(record.left_out for record in records)
    why = f"{left_out} objects touch the border or are too small"
    return f"no beads at threshold {threshold:g}: " + (why if left_out else "nothing reaches it")


def _at_the_end(method: str, kind: Kind) -> str:
    note = "best threshold is the end of the scan"
    if method != TENET:
        return note
    where = "images given by --images" if kind.name == "simulation" else "recordings"
    return f"{note}: {where} may be in another scale than training, see --value-range"


class _Steps:
    """Turns the share that is done of one method after another into steps of a bar."""

    def __init__(self, advance: Any) -> None:
        self._advance, self._done = advance, 0

    def __call__(self, share: float) -> None:
        wanted = round(share * _STEPS)
        if wanted < self._done:
            self._done = 0
        self._advance(wanted - self._done)
        self._done = 0 if wanted == _STEPS else wanted


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _scores_table(
    summaries: Mapping[str, Mapping[float, Summary]], best: Mapping[str, float | None]
) -> str:
    rows = []
    for method, by_threshold in summaries.items():
        for threshold, summary in by_threshold.items():
            row: dict[str, Any] = {"method": method, "threshold": threshold}
            row["best"] = int(best[method] == threshold)
            for score, found in summary.items():
                row |= {f"{score}_{part}": value for part, value in asdict(found).items()}
            rows.append(row)
    return _csv(rows)


def _reported(records: Mapping[str, ByThreshold], rows: Sequence[Row]) -> list[Record]:
    places = dict.fromkeys((row.method, row.threshold) for row in rows)
    return [record for method, threshold in places for record in records[method][threshold]]


def _images_table(records: Mapping[str, ByThreshold], rows: Sequence[Row]) -> str:
    return _csv([_head(record) | dict(record.values) for record in _reported(records, rows)])


def _objects_table(records: Mapping[str, ByThreshold], rows: Sequence[Row]) -> str:
    table = []
    for record in _reported(records, rows):
        for one in record.objects:
            values = asdict(one)
            values["mean_brightness"] = values.pop("mean_intensity")
            values["touches_border"] = values.pop("touches_border")  # last, as in enhance
            places = zip("zyx", values.pop("centroid_um"), strict=True)
            row = _head(record) | {"label": values.pop("label")}
            row |= {f"centroid_{axis}_um": place for axis, place in places}
            table.append(row | values)
    return _csv(table)


def _head(record: Record) -> dict[str, Any]:
    return {"image": record.name, "method": record.method, "threshold": record.threshold}


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    buffer = io.StringIO()
    if rows:
        writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return buffer.getvalue()
