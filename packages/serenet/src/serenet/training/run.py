"""``serenet train``: from a training YAML to a run's folder."""

from pathlib import Path

from scopekit.errors import UserError
from scopekit.memory import choose_device, keep_freed_memory
from scopekit.progress import say
from scopekit.training.loop import train
from scopekit.training.processes import process_group
from scopekit.training.run_folder import RunFolder, read_last
from serenet import __version__
from serenet.training.build import build_recipe
from serenet.training.settings import load_settings


def train_method(
    name_or_file: str, out: Path, *, device: str, resume: bool, overwrite: bool
) -> None:
    """Train a network; its run's folder is ``out``.

    Parameters
    ----------
    name_or_file
        Training YAML, or the name of a preset that ships.
    out
        The run's folder, see `scopekit.training.run_folder`.
    device
        ``auto``, ``cpu`` or ``cuda``.
    resume
        Go on with the run in ``out``, or start it if there is none.
    overwrite
        Start anew where ``out`` holds a run.
    """
    keep_freed_memory()
    settings = load_settings(name_or_file)
    where = choose_device(device)
    if settings.precision == "float16" and where.type != "cuda":
        raise UserError("precision: float16 needs CUDA; take bfloat16 or float32")
    with process_group(where) as world:
        folder = None
        if world.is_first:
            resolved = {"version": __version__, **settings.model_dump(mode="json")}
            folder = RunFolder(out, resolved, resume=resume, overwrite=overwrite)
        recipe = build_recipe(settings, name_or_file, out, world)
        if folder is not None:
            folder.begin()
        world.wait()
        train(recipe, settings.loop(), folder, world, read_last(out))
    if world.is_first:
        best = out / "checkpoints" / "best.pt"
        use = {"twnet": "correct-motion --checkpoint", "vsnet": "reconstruct --virtual-scan"}
        say(f"{best}: use it with serenet {use.get(settings.method, 'reconstruct --checkpoint')}")
        if settings.method in use:
            return
        if settings.depths is not None:
            make = f"serenet psf {settings.optics} --depths {settings.depths} --out psf.h5"
            say(f"and --psf with a PSF of its depths: {make}")
