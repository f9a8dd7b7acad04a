"""One evaluation: methods applied to images, scores, tables, pictures and the report."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from scopekit.errors import UserError, worded
from scopekit.outputs import claimed, require_new, require_writable, whole_file
from scopekit.preview import printable
from scopekit.progress import progress_bar
from scopekit.settings import write_yaml
from tenet.alignment.shifts import alignment_of
from tenet.config.sections import LabelCrops
from tenet.data.recordings import fold_folder, held_out_recordings
from tenet.data.value_range import ValueRange, require_range
from tenet.evaluation.kinds import Kind, Simulation, best_threshold
from tenet.evaluation.methods import TENET, Steps
from tenet.evaluation.pictures import draw_psf, draw_results, draw_sweep
from tenet.evaluation.report import report
from tenet.evaluation.samples import (
    Failures,
    label_files,
    label_name,
    names_of,
    recorded_samples,
    recording_files,
    simulated_crops,
    simulated_samples,
)
from tenet.evaluation.scores import Record, Row, Sample, Summary
from tenet.evaluation.setting import EvaluationOptions, Setting, folds_told
from tenet.evaluation.tables import Records, images_csv, objects_csv, scores_csv
from tenet.evaluation.violins import draw_violins

THRESHOLDS = (0.01, 0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_LARGEST_IN_REPORT = 12  # pictures

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


@dataclass(frozen=True)
class Part:
    """Images that the same networks are tried on: all, or those of a fold.

    Attributes
    ----------
    setting
        What to try, and where results go.
    samples, number
        Images, and how many.
    failures
        Those that could not be used.
    """

    setting: Setting
    samples: Iterable[Sample]
    number: int
    failures: Failures


def evaluate_recordings(
    kind: Kind,
    inputs: Sequence[Path],
    options: EvaluationOptions,
    *,
    folds: Sequence[str] = (),
    aligned: bool = False,
    value_range: ValueRange | None = None,
) -> Outcome:
    """Evaluate recordings.

    Parameters
    ----------
    kind
        What to measure.
    inputs
        Files and folders; none: what the configuration keeps for the test.
    options
        See there.
    folds
        Of a cross-validation: each has its weights and its folders, see `fold_folder`; all are
        measured together.
    aligned, value_range
        See `recorded_samples`.

    Raises
    ------
    UserError
        If no file can be used, or options, configuration or weights are wrong.
    """
    for fold in folds:
        if folds.count(fold) > 1:
            raise UserError(f"fold {fold}: named twice, its images would count twice; name it once")
    settings = [Setting.of(options.of_fold(fold)) for fold in folds or (None,)]
    files = [_recordings(inputs, setting) for setting in settings]
    failures = Failures(sum(map(len, files)))
    alignment = alignment_of(settings[0].config) if aligned else None
    parts = []
    for setting, own in zip(settings, files, strict=True):
        setting.require_volumes(names_of(own))
        samples = recorded_samples(
            own,
            setting.model.params,
            aligned=aligned,
            alignment=alignment,
            value_range=value_range,
            selection=options.selection,
            failures=failures,
            scratch=setting.scratch,
        )
        parts.append(Part(setting, samples, len(own), failures))
    told = {} if value_range is None else {"value_range": list(value_range)}
    rows = evaluate(kind, parts, told)
    return Outcome(rows, settings[0].file(kind, "_report.html"), failures)


def _recordings(inputs: Sequence[Path], setting: Setting) -> list[Path]:
    fold = setting.options.fold
    if not inputs:
        return held_out_recordings(setting.config, fold)
    if fold is not None:
        for path in inputs:
            if path.is_file():
                raise UserError(f"{path}: a file; give folders, to which folds add their number")
    return recording_files([fold_folder(path, fold) for path in inputs])


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
    if options.volumes and not files:
        raise UserError(f"{options.volumes[0].name}: made of which images? give their labels")
    setting = Setting.of(options)
    names = [path.stem for path in pictures] or [label_name(path) for path in files]
    setting.require_volumes(names)
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
            scratch=setting.scratch,
        )
    else:
        number = setting.config.section("pretrain_val_dataset", LabelCrops).I
        samples = simulated_crops(setting.config, setting.model, None)
    told = {} if value_range is None else {"value_range": list(value_range)}
    rows = evaluate(kind, [Part(setting, samples, number, failures)], told)
    return Outcome(rows, setting.file(kind, "_report.html"), failures)


@dataclass
class _Measured:
    """What is measured of all images: method to threshold to records; and pictures, by image.

    ``folds`` holds the same of the network on each fold, under names of their own.
    """

    records: dict[str, dict[float, list[Record]]]
    folds: dict[str, dict[float, list[Record]]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


def evaluate(kind: Kind, parts: Sequence[Part], told: Mapping[str, Any]) -> list[Row]:
    """Evaluate methods on images, and write tables, pictures and a report.

    In the folder, for a kind of evaluation: ``KIND_scores.csv`` (a row for each method and
    threshold), ``KIND_images.csv`` and ``KIND_objects.csv`` (every image, every object, at the
    thresholds of the report), ``KIND_IMAGE.png``, ``KIND_psf.png``, ``KIND_violins.png``,
    ``KIND_thresholds.png`` where there is a truth, ``KIND_report.html``, which shows all of it, and
    ``KIND.yaml``. Nothing is written before everything is measured.

    Parameters
    ----------
    kind
        What to measure.
    parts
        What to try on which images; of several, folds, the images are pooled.
    told
        What else to note in the report and in ``KIND.yaml``.

    Returns
    -------
    list of Row
        Every method, at the given threshold, and at its best one where there is a truth; of folds,
        the network on each of them too.

    Raises
    ------
    UserError
        If there are results already, another run is making them, or there is no image.
    """
    with claimed(parts[0].setting.file(kind, "")):
        return _evaluate(kind, parts, told)


def _evaluate(kind: Kind, parts: Sequence[Part], told: Mapping[str, Any]) -> list[Row]:
    setting = parts[0].setting
    options, threshold = setting.options, setting.threshold
    for ending in ("_report.html", "_scores.csv", ".yaml"):
        require_new(setting.file(kind, ending), overwrite=options.overwrite)
    require_writable(options.out)
    thresholds = sorted({*THRESHOLDS, threshold}) if kind.objective else [threshold]
    measured = _measure(kind, parts, thresholds)
    everything = measured.records | measured.folds
    summaries = {
        method: {t: kind.summarise(found) for t, found in by_threshold.items()}
        for method, by_threshold in everything.items()
    }
    best = {method: best_threshold(kind, scores) for method, scores in summaries.items()}
    rows = _rows(kind, everything, summaries, best, threshold)
    settings = {**setting.told(kind), **told, "images": len(measured.pictures)}
    if measured.folds:
        settings |= folds_told([part.setting for part in parts])

    pooled = [row for row in rows if row.method in measured.records]
    psf = _png(draw_psf(setting.model, setting.config, setting.weights))
    violins = _png(draw_violins(_distributions(kind, pooled, measured.records), kind.ideals))
    shown = {"Distributions": violins}
    files: dict[str, str | bytes] = {"_violins.png": violins, "_psf.png": psf}
    if kind.objective:
        curves = {method: summaries[method] for method in measured.records}
        sweep = _png(draw_sweep(curves, best, kind.ideals))
        shown["Scores over the threshold"] = files["_thresholds.png"] = sweep
    shown |= dict(list(measured.pictures.items())[:_LARGEST_IN_REPORT])
    files |= {
        **{f"_{image}.png": png for image, png in measured.pictures.items()},
        "_scores.csv": scores_csv(summaries, best),
        "_images.csv": images_csv(measured.records, pooled),
        "_report.html": report(kind, rows, settings, {**shown, "PSF": psf}),
    }
    objects = objects_csv(measured.records, pooled)
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


def _measure(kind: Kind, parts: Sequence[Part], thresholds: Sequence[float]) -> _Measured:
    names = parts[0].setting.methods.names
    measured = _Measured({method: {t: [] for t in thresholds} for method in names})
    total = sum(part.number for part in parts) * len(names) * Steps.of_method
    with progress_bar(f"evaluating {kind.name}", total) as advance:
        for part in parts:
            setting, fold = part.setting, part.setting.options.fold
            own = (
                None
                if fold is None
                else measured.folds.setdefault(f"{TENET}, fold {fold}", {t: [] for t in thresholds})
            )
            for sample in part.samples:
                name = sample.name if fold is None else f"fold{fold}_{sample.name}"
                results = []
                for found in setting.methods.apply(sample, Steps(advance)):
                    result = replace(found, name=name)
                    errors = kind.errors(result)
                    for t in thresholds:
                        record = kind.measure(result, t, errors, setting.scratch)
                        measured.records[result.method][t].append(record)
                        if own is not None and result.method == TENET:
                            own[t].append(record)
                    results.append(result)
                figure = draw_results(results, setting.threshold, setting.visualization)
                measured.pictures[name] = _png(figure)
    if not measured.pictures:
        for part in parts:
            part.failures.require_none()
        raise UserError("no image to evaluate; give one or more")
    return measured


def _distributions(
    kind: Kind, rows: Sequence[Row], records: Records
) -> dict[str, dict[str, list[float]]]:
    """Return score to method to numbers, each method at its best threshold if that is known."""
    shown = {row.method: row.threshold for row in rows}  # the best comes last
    numbers = {method: kind.numbers(records[method][t]) for method, t in shown.items()}
    return {
        score: {f"{m} ≥ {shown[m]:g}": found.get(score, []) for m, found in numbers.items()}
        for score in kind.compared
    }


def _rows(
    kind: Kind,
    records: Records,
    summaries: Summaries,
    best: Mapping[str, float | None],
    threshold: float,
) -> list[Row]:
    rows = []
    for method, scores in summaries.items():
        note = _why_none(scores[threshold], threshold, records[method][threshold])
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


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
