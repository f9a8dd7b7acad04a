"""Results that land as TIFF, all frames at once."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from scopekit.images.files import VolumeWriter, scale_to_uint16
from scopekit.images.target import Target
from scopekit.outputs import STAGED, require_new, whole_files
from scopekit.progress import progress_bar, say
from scopekit.series.pipeline import FrameSolver
from scopekit.settings import write_yaml
from serenet.results.landing import Landing

# The volume last: where it exists, the result is complete.
_ENDINGS = (".png", ".yaml", ".tif")


def write_tiff(landing: Landing, solve: FrameSolver) -> Path:
    """Make all frames of one input and land them whole; leave nothing if that fails."""
    result = landing.named(".tif")
    with whole_files(landing.stem, _ENDINGS) as folder:
        landing.require_same_input(result)
        require_new(result, overwrite=landing.overwrite)
        volume = folder / f"{STAGED}.tif"
        settings = _write(landing, volume, solve)
        write_yaml(volume.with_suffix(".yaml"), settings, overwrite=False)
    say(str(result))
    return result


def _write(landing: Landing, volume: Path, solve: FrameSolver) -> dict[str, Any]:
    source, settings = landing.source, landing.describe()
    n_frames = source.n_frames
    records: dict[int, dict[str, Any]] = {}
    with VolumeWriter(volume, landing.shape, landing.voxel_um, overwrite=False) as writer:
        frames = writer.array.reshape(n_frames, *landing.volume_shape)
        bar = progress_bar(source.path.name, n_frames) if n_frames > 1 else nullcontext()
        with bar as advance:
            for frame in range(n_frames):
                records[frame] = solve(source, frame, Target(frames[frame]))
                if advance is not None:
                    advance()
        landing.save_picture(volume.with_suffix(".png"), Target(frames[0]).planes)
        del frames
    if landing.dtype == "uint16":
        settings["uint16_factor"] = scale_to_uint16(volume, landing.voxel_um)
        name = landing.named(".tif").name
        say(f"{name}: stored value = {settings['uint16_factor']:.6g} x value")
    settings["frames"] = landing.finish_frames(records)
    return settings
