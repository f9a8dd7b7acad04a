"""Recordings that ship, by name."""

import shutil
from importlib.resources import files
from pathlib import Path

from scopekit.errors import UserError
from scopekit.outputs import make_folder, require_new, whole_file

SAMPLES = {
    "guv": "one light-field frame of a fluorescent vesicle, 27 um across, and a frame of "
    "homogeneous light; with the microscope's YAML (napari-LF, BSD-3-Clause)",
}


def sample_folder(name: str) -> Path:
    """Return the folder of a sample; its files are not to be changed.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    if name not in SAMPLES:
        raise UserError(f"{name}: no sample of that name; known are {', '.join(SAMPLES)}")
    return Path(str(files("serenet") / "samples" / name))


def copy_sample(name: str, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy the files of a sample into a folder; return them.

    Raises
    ------
    UserError
        If there is no such sample, or a file exists already.
    """
    sources = sorted(sample_folder(name).iterdir())
    targets = [out / source.name for source in sources]
    for target in targets:
        require_new(target, overwrite=overwrite)
    make_folder(out)
    for source, target in zip(sources, targets, strict=True):
        with whole_file(target, overwrite=overwrite) as partial:
            shutil.copyfile(source, partial)
    return targets
