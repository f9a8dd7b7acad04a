"""Evaluation in notebooks: a class for beads, for microglia and for simulations."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from matplotlib.figure import Figure

from scopekit.outputs import whole_file
from tenet.config.files import Config, as_config
from tenet.data.recordings import held_out_recordings
from tenet.data.value_range import ValueRange
from tenet.evaluation.kinds import Beads, Kind, Microglia, Simulation
from tenet.evaluation.methods import Methods
from tenet.evaluation.pictures import draw_psf, draw_results
from tenet.evaluation.samples import (
    label_files,
    recorded_crops,
    recorded_samples,
    recording_files,
    simulated_crops,
    simulated_samples,
)
from tenet.evaluation.scores import Result, Sample, Summary
from tenet.network.weights import best_weights, load_model, weights_file, weights_of

Data = str | Path | Sequence[str | Path]


class Inference:
    """What the three classes have in common.

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
        Whether slices of recordings are aligned first.
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
        pretrain: bool = False,
        threshold: float | None = None,
        *,
        weights: str | Path | None = None,
        is_finetuning: bool = True,
        with_align: bool = False,
        value_range: ValueRange | None = None,
        device: str = "auto",
    ) -> None:
        self.config = as_config(model_name)
        if weights is None and (pretrain or not is_finetuning):
            weights = "pretrained"
        if weights is None:
            self.weights = best_weights(self.config)
        elif weights in ("finetuned", "pretrained"):
            self.weights = weights_of(self.config, pretrained=weights == "pretrained")
        else:
            self.weights = weights_file(weights)
        self.model = load_model(self.weights, self.config, device=device)
        self.threshold: float = self.config.params.threshold
        if threshold is not None and threshold >= 0:
            self.threshold = threshold
        self.with_align = with_align
        self.value_range = value_range

    def get_result(
        self, datapath: Data | None = None, num_results: int | None = None
    ) -> list[Result]:
        """Enhance images.

        Parameters
        ----------
        datapath
            Files or a folder; by default what the configuration names, see the class.
        num_results
            How many at most.
        """
        samples = itertools.islice(self._samples(_paths(datapath), num_results), num_results)
        methods = Methods(self.model)
        return [result for sample in samples for result in methods.apply(sample)]

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        raise NotImplementedError

    def _recorded(self, files: Sequence[Path]) -> list[Sample]:
        aligned, values = self.with_align, self.value_range
        return recorded_samples(files, self.config.params, aligned=aligned, value_range=values)

    def evaluate(self, results: Sequence[Result]) -> dict[str, float]:
        """Return scores of results at the threshold: means, ``..._sd`` and ``..._ci95``."""
        return {
            name + ending: value
            for name, found in self._summary(results).items()
            for ending, value in (("", found.mean), ("_sd", found.sd), ("_ci95", found.ci95))
        }

    def _summary(self, results: Sequence[Result]) -> Summary:
        kind = self.kind
        return kind.summarise([kind.measure(r, self.threshold, kind.errors(r)) for r in results])

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
    >>> sorted(metrics)[:4]
    ['ci95', 'mean', 'number', 'reconstruction_mse']
    """

    kind = Beads()

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        files = held_out_recordings(self.config) if paths is None else recording_files(paths)
        yield from self._recorded(files[:number])

    def evaluate(self, results: Sequence[Result]) -> dict[str, float]:
        """Return ``mean``, ``sd`` and ``ci95`` of the volume (um^3), ``number`` of beads, and more.

        The rest as from the other classes: ``sphericity``, ``z_xy_ratio``, ``reconstruction_mse``,
        and ``..._sd`` and ``..._ci95`` of each.
        """
        volume = self._summary(results)["volume_um3"]
        head = {"mean": volume.mean, "sd": volume.sd, "ci95": volume.ci95, "number": volume.number}
        return {**head, **super().evaluate(results)}


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
            aligned, values = self.with_align, self.value_range
            yield from recorded_crops(self.config, number, aligned=aligned, value_range=values)
        else:
            yield from self._recorded(recording_files(paths)[:number])


class SimulationInference(Inference):
    """Labels, imaged on the spot: error, cross-entropy and overlap.

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

    def _samples(self, paths: list[Path] | None, number: int | None) -> Iterator[Sample]:
        if paths is None:
            yield from simulated_crops(self.config, self.model, number)
        else:
            yield from simulated_samples(label_files(paths)[:number], self.model, seed=0)


def _paths(data: Data | None) -> list[Path] | None:
    if data is None:
        return None
    return [Path(data)] if isinstance(data, str | Path) else [Path(path) for path in data]
