"""One evaluation: methods applied to images, scores, tables, pictures and the report."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scopekit.errors import UserError, worded
from scopekit.outputs import require_new, require_writable, whole_file
from scopekit.preview import printable
from scopekit.progress import progress_bar
from scopekit.settings import write_yaml
from tenet.config.sections import LabelCrops
from tenet.data.value_range import ValueRange, require_range
from tenet.evaluation.kinds import Kind, Simulation, best_threshold
from tenet.evaluation.methods import TENET
from tenet.evaluation.pictures import draw_psf, draw_results, draw_sweep
from tenet.evaluation.report import report
from tenet.evaluation.samples import (
    Failures,
    label_files,
    recorded_samples,
    recording_files,
    simulated_crops,
    simulated_samples,
)
from tenet.evaluation.scores import Record, Row, Sample, Summary
from tenet.evaluation.setting import EvaluationOptions, Setting
from tenet.evaluation.tables import images_csv, objects_csv, scores_csv

THRESHOLDS = (0.01, 0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_LARGEST_IN_REPORT = 12  # pictures
_STEPS = 100  # of the progress bar, for a method

Summaries = Mapping[str, Mapping[float, Summary]]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation left.

    Attributes
    ----------
    rows
        Every method, at the threshold asked for, and at its best one where there is a truth.
    page
        The report.
    failures
        Files that could not be used.
    """

    rows: list[Row]
    page: Path
    failures: Failures


def evaluate_recordings(
    kind: Kind,
    inputs: Sequence[Path],
    options: EvaluationOptions,
    *,
    aligned: bool = False,
    value_range: ValueRange | None = None,
) -> Outcome:
    """Evaluate recordings.

    Parameters
    ----------
    kind
        What to measure.
    inputs
        Files and folders.
    options
        See there.
    aligned, value_range
        See `recorded_samples`.

    Raises
    ------
    UserError
        If no file can be used, or options, configuration or weights are wrong.
    """
    setting = Setting.of(options)
    files = recording_files(inputs)
    failures = Failures(len(files))
    samples = recorded_samples(
        files,
        setting.model.params,
        aligned=aligned,
        value_range=value_range,
        selection=options.selection,
        failures=failures,
    )
    if not samples:
        failures.require_none()
    told = {} if value_range is None else {"value_range": list(value_range)}
    rows = evaluate(kind, setting, samples, len(samples), told)
    return Outcome(rows, setting.file(kind, "_report.html"), failures)


def evaluate_simulation(
    labels: Sequence[Path],
    options: EvaluationOptions,
    *,
    images: Path | None = None,
    value_range: ValueRange | None = None,
    seed: int = 0,
) -> Outcome:
    """Evaluate images of labels, whose structure is known.

    Parameters
    ----------
    labels
        Files NNNN_labelx.npy, or folders of them; none: crops of ``pretrain_val_dataset``.
    options
        See there.
    images
        Folder of the labels' images, in the same order; by default they are made.
    value_range
        Values of ``images`` that are 0 and 1 to the network.
    seed
        Of the noise of images that are made: the first one's, the next has the next.

    Raises
    ------
    UserError
        If no file can be used, or options, configuration or weights are wrong.
    """
    kind = Simulation()
    files = label_files(labels)
    pictures = [] if images is None else recording_files([images])
    if images is not None and len(pictures) != len(files):
        raise UserError(f"{images}: {len(pictures)} images of {len(files)} labels; give all")
    if value_range is not None and images is None:
        raise UserError("`value_range`: labels are imaged in the right scale; leave it out")
    require_range(value_range)
    setting = Setting.of(options)
    failures = Failures(len(files))
    if files:
        number = len(files)
        samples = simulated_samples(
            files,
            setting.model,
            seed,
            pictures,
            value_range=value_range,
            selection=options.selection,
            failures=failures,
        )
    else:
        number = setting.config.section("pretrain_val_dataset", LabelCrops).I
        samples = simulated_crops(setting.config, setting.model, None)
    told = {} if value_range is None else {"value_range": list(value_range)}
    rows = evaluate(kind, setting, samples, number, told)
    return Outcome(rows, setting.file(kind, "_report.html"), failures)


@dataclass
class _Measured:
    """What is measured of all images: method to threshold to records; and pictures, by image."""

    records: dict[str, dict[float, list[Record]]]
    pictures: dict[str, bytes] = field(default_factory=dict)


def evaluate(
    kind: Kind,
    setting: Setting,
    samples: Iterable[Sample],
    number: int,
    told: Mapping[str, Any],
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
    setting
        What to try, and where results go.
    samples, number
        Images, and how many.
    told
        What else to note in the report and in ``KIND.yaml``.

    Returns
    -------
    list of Row
        Every method, at the given threshold, and at its best one where there is a truth.
    """
    options, threshold = setting.options, setting.threshold
    for ending in ("_report.html", "_scores.csv", ".yaml"):
        require_new(setting.file(kind, ending), overwrite=options.overwrite)
    require_writable(options.out)
    thresholds = sorted({*THRESHOLDS, threshold}) if kind.objective else [threshold]
    measured = _measure(kind, setting, samples, number, thresholds)
    summaries = {
        method: {t: kind.summarise(found) for t, found in by_threshold.items()}
        for method, by_threshold in measured.records.items()
    }
    best = {method: best_threshold(kind, scores) for method, scores in summaries.items()}
    rows = _rows(kind, measured, summaries, best, threshold)
    settings = {**setting.told(kind), **told, "images": len(measured.pictures)}

    psf = _png(draw_psf(setting.model, setting.config, setting.weights))
    sweep = _png(draw_sweep(summaries, best, kind.ideals)) if kind.objective else None
    shown = {} if sweep is None else {"Scores over the threshold": sweep}
    shown |= dict(list(measured.pictures.items())[:_LARGEST_IN_REPORT])
    files: dict[str, str | bytes] = {
        **{f"_{image}.png": png for image, png in measured.pictures.items()},
        "_psf.png": psf,
        **({} if sweep is None else {"_thresholds.png": sweep}),
        "_scores.csv": scores_csv(summaries, best),
        "_images.csv": images_csv(measured.records, rows),
        "_report.html": report(kind, rows, settings, {**shown, "PSF": psf}),
    }
    objects = objects_csv(measured.records, rows)
    if objects:
        files["_objects.csv"] = objects
    for ending in files:
        require_new(setting.file(kind, ending), overwrite=options.overwrite)
    write_yaml(setting.file(kind, ".yaml"), settings, overwrite=options.overwrite)
    for ending, content in files.items():
        with whole_file(setting.file(kind, ending), overwrite=options.overwrite) as partial:
            raw = content if isinstance(content, bytes) else printable(content).encode()
            partial.write_bytes(raw)
    return rows


def _measure(
    kind: Kind,
    setting: Setting,
    samples: Iterable[Sample],
    number: int,
    thresholds: Sequence[float],
) -> _Measured:
    methods = setting.methods
    measured = _Measured({method: {t: [] for t in thresholds} for method in methods.names})
    total = number * len(methods.names) * _STEPS
    with progress_bar(f"evaluating {kind.name}", total) as advance:
        for sample in samples:
            results = []
            for result in methods.apply(sample, _Steps(advance)):
                errors = kind.errors(result)
                for t in thresholds:
                    record = kind.measure(result, t, errors)
                    measured.records[result.method][t].append(record)
                results.append(result)
            figure = draw_results(results, setting.threshold, setting.visualization)
            measured.pictures[sample.name] = _png(figure)
    if not measured.pictures:
        raise UserError("no image to evaluate; give one or more")
    return measured


def _rows(
    kind: Kind,
    measured: _Measured,
    summaries: Summaries,
    best: Mapping[str, float | None],
    threshold: float,
) -> list[Row]:
    rows = []
    for method, scores in summaries.items():
        note = _why_none(scores[threshold], threshold, measured.records[method][threshold])
        rows.append(Row(method, threshold, False, scores[threshold], note))
        found = best[method]
        if found is not None:
            note = _at_the_end(method, kind) if found in (min(scores), max(scores)) else ""
            rows.append(Row(method, found, True, scores[found], note))
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
    where = f"{kind.images} may be in another scale than in training"
    return worded(f"{note}: {where}, see `value_range`")


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
