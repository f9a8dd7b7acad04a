"""Evaluation in notebooks: a class for beads, for microglia and for simulations."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from matplotlib.figure import Figure

from scopekit.errors import UserError
from scopekit.memory import choose_device
from scopekit.outputs import whole_file
from scopekit.progress import say
from tenet.config.files import Config, load_config
from tenet.config.sections import Visualization
from tenet.evaluation.kinds import Beads, Kind, Microglia, Result, Simulation, Summary
from tenet.evaluation.methods import Methods, Sample
from tenet.evaluation.pictures import draw_results
from tenet.evaluation.samples import (
    held_out_recordings,
    label_files,
    recorded_crops,
    recorded_samples,
    recording_files,
    simulated_crops,
    simulated_samples,
)
from tenet.microscope.psf import Profiles, draw_sections
from tenet.network.jnet import JNet
from tenet.network.weights import load_model, model_file

Data = str | Path | Sequence[str | Path]


def _folder(config: Config) -> str:
    loop = config.train_loop or config.pretrain_loop
    return "model" if loop is None else loop.path


def best_weights(config: Config) -> Path:
    """Return the file of a configuration's fine-tuned weights, else of its pre-trained ones.

    Says so where it has to do with the latter.
    """
    try:
        return weights_of(config, pretrained=False)
    except UserError:
        weights = weights_of(config, pretrained=True)
        say(f"{config.name}: no fine-tuned weights; taken are the pre-trained ones, {weights.name}")
        return weights


def weights_of(config: Config, *, pretrained: bool) -> Path:
    """Return the file of a configuration's pre-trained or fine-tuned weights.

    Raises
    ------
    UserError
        If it is not there.
    """
    path = model_file(_folder(config), config.pretrained_model if pretrained else config.name)
    if not path.is_file():
        command = "pretrain" if pretrained else "finetune"
        raise UserError(f"{path}: no such file; run tenet {command} {config.name} first")
    return path


def visualization_of(config: Config) -> Visualization | None:
    """Return the section ``visualization`` where the configuration has one."""
    return config.visualization if "visualization" in config.model_fields_set else None


def draw_psf(model: JNet, config: Config, weights: Path) -> Figure:
    """Draw the PSF before and after fine-tuning: of the pre-trained weights, and of the model.

    Where there are no others, the analytic PSF is what was before.
    """
    params = model.params
    earlier = model_file(_folder(config), config.pretrained_model)
    if earlier.is_file() and earlier.resolve() != weights.resolve():
        before, titles = _section(load_model(earlier, params)), ("before", "after fine-tuning")
    else:
        before, titles = model.image.analytic.cpu().numpy(), ("analytic", "neural")
    pair = (before, _section(model))
    profiles = [Profiles(section, params.res_axial, params.res_lateral) for section in pair]
    return draw_sections(dict(zip(titles, profiles, strict=True)), f"PSF of {weights.stem}")


def _section(model: JNet) -> Any:
    return model.image.section().detach().cpu().numpy()


class Inference:
    """What the three classes have in common.

    Parameters
    ----------
    model_name
        A configuration: its path, or its name.
    pretrain, is_finetuning
        Which weights: the fine-tuned ones if there are any, else the pre-trained ones; these too
        if ``pretrain`` is true or ``is_finetuning`` false.
    threshold
        What counts as structure; below 0: the configuration's.
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
        model_name: str | Path,
        pretrain: bool = False,
        threshold: float = -1,
        *,
        is_finetuning: bool = True,
        with_align: bool = False,
        value_range: tuple[float, float] | None = None,
        device: str = "auto",
    ) -> None:
        self.config = load_config(model_name)
        if pretrain or not is_finetuning:
            self.weights = weights_of(self.config, pretrained=True)
        else:
            self.weights = best_weights(self.config)
        self.model = load_model(self.weights, self.config.params).to(choose_device(device))
        self.threshold = self.config.params.threshold if threshold < 0 else threshold
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
        section = visualization_of(self.config)
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
