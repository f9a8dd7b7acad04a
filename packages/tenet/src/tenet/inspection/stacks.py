"""What a stack is to ``tenet``, in plain words, and which command comes next."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scopekit.errors import UserError
from scopekit.images.files import WHOLE_FILE, Selection
from scopekit.inspection import Report, counts_text, look_at, noise_text, sampling_text
from tenet.alignment.shifts import align
from tenet.config.files import SHIPPED, Config, load_config
from tenet.data.light_fields import views_doubt
from tenet.data.recordings import RecordingFile, open_recording
from tenet.network.weights import weights_of

# Relative difference between two voxel sizes that is worth a word, as when a stack is enhanced.
_SAME_VOXEL = 0.1
# Of this the alignment network sees no more: it is quick then, and shifts are those of all.
_WINDOW = 192
_MOST_PLANES = 64
_FEWEST_PLANES = 4
# More planes than so many rows or columns are hardly a stack.
_MOVIE = 3
# Pixels rms; of stacks at rest 0.2 to 0.9 are found.
_DISPLACED = 1.5


def inspect(
    path: Path, config: str | Path | None = None, selection: Selection = WHOLE_FILE
) -> Report:
    """Return what a stack is and which commands come next.

    Parameters
    ----------
    path
        A recording of any format.
    config
        Configuration of a network, whose microscope the stack is compared with.
    selection
        Which channel and position are meant, where there are several.

    Raises
    ------
    UserError
        If it is no stack, damaged, or nothing is in it.
    """
    known = None if config is None else load_config(config)
    recording = open_recording(path, selection)
    demo = load_config("demo")
    if known is None and _fits(recording, demo):
        known = demo
    counts = look_at(recording.stack)
    z, y, x = recording.shape
    times = f"{recording.n_frames} time points of " if recording.n_frames > 1 else ""
    name = "demo" if config is None else str(config)
    # As what is simulated: the scale is the network's own.
    is_scaled = 0 <= counts.least < counts.largest <= 1
    doubt = ""
    is_movie = z > _MOVIE * max(y, x)
    if views_doubt(recording):
        doubt = f"; {views_doubt(recording)}"
    if is_movie:
        doubt = (
            "; more planes than a stack has, a movie perhaps? Its frames are no planes: export it "
            "again with its axes named, as time points of whole stacks"
        )
    return Report(
        f"{times}{z} planes of {y} x {x} pixels, {recording.stack.dtype}{doubt}",
        {
            "voxels": _voxels(recording),
            "counts": counts_text(counts),
            "noise": noise_text(counts),
            "slices": _slices(_middle(recording)),
            "network": _fit(recording, known or demo, name),
        },
        () if is_movie else tuple(_steps(path, known, name, selection, is_scaled=is_scaled)),
    )


def _voxels(recording: RecordingFile) -> str:
    steps, (z, y, x) = recording.steps, recording.shape
    told = sampling_text(steps)
    if steps.z_um is None or steps.x_um is None or steps.y_um is None:
        return f"{told}; what is missing is taken from the configuration"
    extent = " x ".join(
        f"{n * step:.4g}"
        for n, step in zip((z, y, x), (steps.z_um, steps.y_um, steps.x_um), strict=True)
    )
    ratio = steps.z_um / steps.x_um
    return f"{told}; {extent} um in all; a voxel is {ratio:.2g} times as deep as wide"


def _middle(recording: RecordingFile) -> NDArray[np.float32]:
    """Return the middle of the first time point, from 0 to 1."""
    z = recording.shape[0]
    first = max((z - _MOST_PLANES) // 2, 0)
    planes = recording.planes(0, first, min(first + _MOST_PLANES, z))
    first_y, first_x = (max((n - _WINDOW) // 2, 0) for n in planes.shape[1:])
    window = planes[:, first_y : first_y + _WINDOW, first_x : first_x + _WINDOW]
    low, high = float(window.min()), float(window.max())
    scaled: NDArray[np.float32] = ((window - low) / ((high - low) or 1)).astype(np.float32)
    return scaled


def _slices(stack: NDArray[np.float32]) -> str:
    if len(stack) < _FEWEST_PLANES or min(stack.shape[1:]) < 16:
        return "too few to tell whether they are displaced"
    _, shifts = align(stack)
    rms = float(np.sqrt(np.square(shifts).sum(-1).mean()))
    if rms < _DISPLACED:
        return f"in place, within {rms:.1f} pixels rms"
    return (
        f"DISPLACED, it seems, by {rms:.1f} pixels rms, as by breathing: tenet finetune --align "
        "aligns them first, in Python tenet.align"
    )


def _fit(recording: RecordingFile, config: Config, name: str) -> str:
    text = f"{name} is for voxels of {' x '.join(f'{n:g}' for n in _expected(config))} um (z, y, x)"
    fits = _fits(recording, config)
    if fits is None:
        return text
    return f"{text}, as these are" if fits else f"{text}, NOT as these are: train for these"


def _expected(config: Config) -> tuple[float, float, float]:
    params = config.params
    return params.res_axial, params.res_lateral, params.res_lateral


def _fits(recording: RecordingFile, config: Config) -> bool | None:
    """Whether a configuration is for such voxels, ``None`` if the file tells none."""
    steps = recording.steps
    told = zip((steps.z_um, steps.y_um, steps.x_um), _expected(config), strict=True)
    known = [own / expected for own, expected in told if own is not None]
    return all(abs(ratio - 1) <= _SAME_VOXEL for ratio in known) if known else None


def _steps(
    path: Path, config: Config | None, name: str, selection: Selection, *, is_scaled: bool
) -> Iterator[str]:
    file, own = shlex.quote(str(path)), shlex.quote(name)
    for option in ("channel", "position"):
        chosen = getattr(selection, option)
        file += "" if chosen is None else f" --{option} {chosen}"
    if config is None:
        copied = f"your microscope and a name of your own in a copy of {SHIPPED / 'demo.json'}"
        yield f"tenet pretrain my.json --minutes 20    # {copied}"
        yield f"tenet check {file} --config my.json"
        return
    weights = _weights(config)
    if weights is None:
        yield f"tenet pretrain {own} --minutes 20"
        return
    # Networks of any scale find it themselves.
    scale = " --value-range 0 1" if is_scaled and not config.params.any_scale else ""
    yield f"tenet enhance {file} --config {own} --checkpoint {weights}{scale} --out enhanced"


def _weights(config: Config) -> str | None:
    """Return fine-tuned weights, else pre-trained ones, as an option's value."""
    for pretrained in (False, True):
        try:
            found = weights_of(config, pretrained=pretrained)
        except UserError:
            continue
        return shlex.quote(found.stem if found.parent == SHIPPED else str(found))
    return None
