"""The microscope of recordings, found for ``tenet psf --fit``."""

from collections.abc import Sequence
from pathlib import Path

from scopekit.errors import UserError
from scopekit.images.selection import Selection
from scopekit.progress import say
from tenet.config.files import Config
from tenet.data.crops import tell_voxels
from tenet.data.recordings import read_selected
from tenet.microscope.bank import with_na
from tenet.network.microscope_fit import find_microscope
from tenet.network.scale import part_in_scale
from tenet.network.weights import best_weights, load_evaluated, weights_file


def fitted_config(
    config: Config,
    stacks: Sequence[Path],
    checkpoint: Path | None,
    selection: Selection,
    *,
    seed: int,
) -> Config:
    """Return a configuration with the numerical aperture that recordings were made with.

    Says what was found.

    Parameters
    ----------
    config
        The configuration, whose microscope is nearly that of the recordings.
    stacks
        The recordings.
    checkpoint
        Weights of the network; by default the configuration's.
    selection
        Which channel and position of files that have several.
    seed
        Of the simulations, see `tenet.network.microscope_fit`.

    Raises
    ------
    UserError
        If a file cannot be used, or nothing is to be seen in any.
    """
    weights = best_weights(config) if checkpoint is None else weights_file(checkpoint)
    model = load_evaluated(weights, config)
    images = []
    for path in stacks:
        recording = read_selected(path, selection)
        tell_voxels(recording, config.params, "as which it is fitted")
        image = part_in_scale(model, recording.volume)
        if image is not None:
            images.append(image)
    if not images:
        raise UserError(f"{stacks[0]}: nothing but noise; give a recording that shows something")
    found = find_microscope(model, images, seed)
    say(found.told(config.params.NA))
    return config.model_copy(update={"params": with_na(config.params, found.factor)})
