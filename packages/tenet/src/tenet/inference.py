"""Evaluation in notebooks: a class for beads, for microglia and for simulations."""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from scopekit.outputs import whole_file
from tenet.alignment.shifts import align, alignment_of
from tenet.config.files import Config, as_config
from tenet.data.recordings import held_out_recordings
from tenet.data.value_range import ValueRange
from tenet.evaluation.kinds import Beads, Kind, Microglia, Simulation
from tenet.evaluation.methods import Methods
from tenet.evaluation.pictures import draw_psf, draw_results
from tenet.evaluation.samples import (
    label_files,
    names_of,
    recorded_crops,
    recorded_samples,
    recording_files,
    shaken,
    simulated_crops,
    simulated_samples,
)
from tenet.evaluation.scores import Record, Result, Sample
from tenet.network.weights import best_weights, load_evaluated, weights_file, weights_of

Data = str | Path | Sequence[str | Path]


class Inference:
    """What the three classes have in common.

    All but the configuration is named: the published classes differ in the order of theirs.

    Parameters
    ----------
    model_name
        A configuration: itself, its path, or its name.
    pretrain
        The older way to say ``weights="pretrained"``.
    threshold
        What counts as structure; ``None``, or anything below 0, for the configuration's.
    weights
        ``finetuned`` or ``pretrained`` for those of the configuration; or a file, or the name of
        weights that ship. By default the fine-tuned ones if there are any, else the pre-trained.
    is_finetuning
        False: the older way to say ``weights="pretrained"``.
    with_align
        Whether slices are aligned first, by ``align_model`` where the configuration names one that
        is there.
    is_vibrate
        Whether slices are displaced before, as the section ``vibration`` says at its full strength.
    cv
        Fold of a cross-validation: its weights, and its folder of recordings.
    with_hill
        See `tenet.enhance`.
    value_range
        Recorded values that are 0 and 1 to the network, others are clipped; by default each
        stack's least and largest. Simulations have none.
    device
        ``auto``, ``cpu`` or ``cuda``.

    Raises
    ------
    UserError
        If the configuration is wrong or the weights are missing.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        model_name: Config | str | Path,
        *,
        pretrain: bool = False,
        threshold: float | None = None,
        weights: str | Path | None = None,
        is_finetuning: bool = True,
        with_align: bool = False,
        is_vibrate: bool = False,
        cv: str | int | None = None,
        with_hill: bool = True,
        value_range: ValueRange | None = None,
        device: str = "auto",
    ) -> None:
        self.config = as_config(model_name)
        self.fold = None if cv is None or cv == "" else str(cv)
        if weights is None and (pretrain or not is_finetuning):
            weights = "pretrained"
        elif weights is None and self.fold:
            weights = "finetuned"
        if weights is None:
            self.weights = best_weights(self.config)
        elif weights in ("finetuned", "pretrained"):
            early = weights == "pretrained"
            self.weights = weights_of(self.config, pretrained=early, fold=self.fold)
        else:
            self.weights = weights_file(weights)
        self.threshold: float = self.config.params.threshold
        if threshold is not None and threshold >= 0:
            self.threshold = threshold
        self.model = load_evaluated(
            self.weights, self.config, threshold=self.threshold, device=device
        )
        self.with_align, self.is_vibrate, self.with_hill = with_align, is_vibrate, with_hill
        self.value_range = value_range

    def get_result(
        self, datapath: Data | int | None = None, num_results: int | None = None
    ) -> list[Result]:
        """Enhance images.

        Parameters
        ----------
        datapath
            Files or a folder; by default what the configuration names, see the class. A whole
            number is taken for ``num_results``.
        num_results
            How many at most.
        """
        if isinstance(datapath, int):
            datapath, num_results = None, datapath
        samples = itertools.islice(self._samples(_paths(datapath), num_results), num_results)
        methods = Methods(self.model, with_hill=self.with_hill)
        return [result for s in self._displaced(samples) for result in methods.apply(s)]

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        raise NotImplementedError

    def _displaced(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """Displace slices if that is asked for, and align what was not aligned when it was read."""
        late = self.with_align and not self._aligned_early
        model = alignment_of(self.config) if late else None
        for number, sample in enumerate(samples):
            one = shaken(sample, self.config.vibration, number) if self.is_vibrate else sample
            if late:
                one = replace(one, image=align(one.image, model)[0].clip(0, 1))
            yield one

    @property
    def _aligned_early(self) -> bool:
        """Whether slices are aligned when they are read: whole stacks tell more than crops."""
        return self.with_align and not self.is_vibrate

    def _recorded(self, files: Sequence[Path]) -> Iterator[Sample]:
        names_of(files)
        return recorded_samples(
            files,
            self.config.params,
            aligned=self._aligned_early,
            alignment=alignment_of(self.config) if self._aligned_early else None,
            value_range=self.value_range,
        )

    def evaluate(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return scores of results at the threshold, and lists of one number an image.

        Scores are means, with ``..._sd``, the standard deviation by n - 1 (``ddof=1``; NumPy's
        default is by n), and ``..._ci95``, half the 95 % confidence interval. The lists:
        ``volume``, of all voxels at or above the threshold, um^3; ``MSE`` of the reconstruction,
        its gain and offset fitted; ``qloss``, the mean squared difference of the structure from
        its quantised self.
        """
        return self._scores(results, self._records(results))

    def _records(self, results: Sequence[Result]) -> list[Record]:
        kind = self.kind
        return [kind.measure(r, self.threshold, kind.errors(r)) for r in results]

    def _scores(self, results: Sequence[Result], records: Sequence[Record]) -> dict[str, Any]:
        scores: dict[str, Any] = {
            name + ending: value
            for name, found in self.kind.summarise(records).items()
            for ending, value in (("", found.mean), ("_sd", found.sd), ("_ci95", found.ci95))
        }
        scores["volume"] = [
            float((r.structure >= self.threshold).sum() * math.prod(r.voxel_um)) for r in results
        ]
        scores["MSE"] = [record.values["reconstruction_mse"] for record in records]
        scores["qloss"] = [replace(r, quantised_at=self.threshold).quantized_loss for r in results]
        return scores

    def visualize(self, results: Iterable[Result]) -> list[Path]:
        """Draw each result; write PNG files to ``visualization.path``, replacing earlier ones."""
        section = self.config.told_visualization
        figures = ((r.name, draw_results([r], self.threshold, section)) for r in results)
        return [self._save(figure, name) for name, figure in figures]

    def psf_visualize(self) -> Path:
        """Draw the PSF before and after fine-tuning; write a PNG file to ``visualization.path``."""
        return self._save(draw_psf(self.model, self.config, self.weights), "psf")

    def _save(self, figure: Figure, what: str) -> Path:
        name = f"{self.config.name}_{self.kind.name}_{what}.png"
        path = Path(self.config.visualization.path) / name
        with whole_file(path, overwrite=True) as partial:
            figure.savefig(partial, format="png")
        return path


class BeadsInference(Inference):
    """Beads: volume, sphericity and elongation.

    By default of the stacks that training leaves out (``test_dataset.test_images``), or else of
    those that validate.

    Examples
    --------
    >>> import tenet
    >>> beads = tenet.BeadsInference("tuned.json", weights="pretrained", device="cpu")
    >>> metrics = beads.evaluate(beads.get_result("stacks", num_results=1))
    >>> len(metrics["volume"]), {"mean", "sd", "ci95", "number"} <= set(metrics)
    (1, True)
    """

    kind = Beads()

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        if paths is None:
            files = held_out_recordings(self.config, self.fold)
        else:
            files = recording_files(paths)
        yield from self._recorded(files[:number])

    def evaluate(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return ``mean``, ``sd`` and ``ci95`` of the volume (um^3), ``number`` of beads, and more.

        Those are of beads, which leaves specks out and what the border cuts of several; the list
        ``volume`` is of images. The rest as from the other classes: ``sphericity``, ``z_xy_ratio``,
        ``reconstruction_mse``, with ``..._sd`` and ``..._ci95``, and the lists.
        """
        records = self._records(results)
        volume = self.kind.summarise(records)["volume_um3"]
        head = {"mean": volume.mean, "sd": volume.sd, "ci95": volume.ci95, "number": volume.number}
        return {**head, **self._scores(results, records)}


class MicrogliaInference(Inference):
    """Recordings without truth: what share is structure, and how well it explains them.

    By default of crops of the stacks that validate.

    Examples
    --------
    >>> import tenet
    >>> microglia = tenet.MicrogliaInference("demo", device="cpu")
    >>> results = microglia.get_result("cell.npy")
    >>> 0 <= microglia.evaluate(results)["segmented_fraction"] <= 1
    True
    """

    kind = Microglia()

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        if paths is None:
            yield from recorded_crops(
                self.config,
                number,
                aligned=self._aligned_early,
                fold=self.fold,
                value_range=self.value_range,
            )
        else:
            yield from self._recorded(recording_files(paths)[:number])


class SimulationInference(Inference):
    """Labels, imaged on the spot: error, cross-entropy and overlap, of structure and brightness.

    By default of crops of ``pretrain_val_dataset``; else of files NNNN_labelx.npy or their folder.

    Examples
    --------
    >>> import tenet
    >>> simulation = tenet.SimulationInference("demo", device="cpu")
    >>> results = simulation.get_result("labels", num_results=1)
    >>> results[0].truth.shape == results[0].structure.shape
    True
    """

    kind = Simulation()

    @property
    def _aligned_early(self) -> bool:
        return False

    def evaluate(self, results: Sequence[Result]) -> dict[str, Any]:
        """Return scores and lists as the other classes do, and a few lists more.

        ``MSEx`` and ``BCEx``, errors of the structure; ``MSEz`` and ``BCEz``, of the brightness
        times the true structure. Their means are ``mse``, ``bce``, ``mse_z`` and ``bce_z``.
        """
        records = self._records(results)
        names = {"MSEx": "mse", "BCEx": "bce", "MSEz": "mse_z", "BCEz": "bce_z"}
        lists = {name: [one.values[score] for one in records] for name, score in names.items()}
        return self._scores(results, records) | lists

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        if paths is None:
            yield from simulated_crops(self.config, self.model, number)
        else:
            yield from simulated_samples(label_files(paths)[:number], self.model, seed=0)


def _paths(data: Data | None) -> list[Path] | None:
    if data is None:
        return None
    return [Path(data)] if isinstance(data, str | Path) else [Path(path) for path in data]
