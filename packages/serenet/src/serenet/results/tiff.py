"""Results that land as TIFF, all frames at once."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from scopekit.images.files import VolumeWriter, scale_to_uint16
from scopekit.images.target import Target
from scopekit.progress import progress_bar, say
from scopekit.series.pipeline import FrameSolver
from scopekit.settings import write_yaml
from serenet.results.landing import Landing

# The volume last: where it exists, the result is complete.
_ENDINGS = (".png", ".yaml", ".tif")


def write_tiff(landing: Landing, solve: FrameSolver) -> Path:
    """Make all frames of one input and land them whole; leave nothing if that fails."""
    result = landing.named(".tif")
    hidden = result.with_name(f".{result.name}")
    is_new = not result.parent.exists()
    try:
        settings = _write(landing, hidden, solve)
        write_yaml(hidden.with_suffix(".yaml"), settings, overwrite=True)
        result.with_suffix(".png").unlink(missing_ok=True)  # of an earlier result
        for ending in _ENDINGS:
            if hidden.with_suffix(ending).exists():
                hidden.with_suffix(ending).replace(result.with_suffix(ending))
    except BaseException:
        for ending in _ENDINGS:
            hidden.with_suffix(ending).unlink(missing_ok=True)
        if is_new and result.parent.is_dir() and not any(result.parent.iterdir()):
            result.parent.rmdir()
        raise
    say(str(result))
    return result


def _write(landing: Landing, hidden: Path, solve: FrameSolver) -> dict[str, Any]:
    source, settings = landing.source, landing.describe()
    n_frames = source.n_frames
    records: dict[int, dict[str, Any]] = {}
    with VolumeWriter(hidden, landing.shape, landing.voxel_um, overwrite=True) as writer:
        frames = writer.array.reshape(n_frames, *landing.volume_shape)
        bar = progress_bar(source.path.name, n_frames) if n_frames > 1 else nullcontext()
        with bar as advance:
            for frame in range(n_frames):
                records[frame] = solve(source, frame, Target(frames[frame]))
                if advance is not None:
                    advance()
        landing.save_picture(hidden.with_suffix(".png"), Target(frames[0]).planes())
        del frames
    if landing.dtype == "uint16":
        settings["uint16_factor"] = scale_to_uint16(hidden, landing.voxel_um)
        name = landing.named(".tif").name
        say(f"{name}: stored value = {settings['uint16_factor']:.6g} x value")
    settings["frames"] = landing.finish_frames(records)
    return settings
