"""What every command-line program here does alike: options, one-line errors, exit codes."""

import io
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn

import typer

from scopekit.errors import UserError, line_of, options_named
from scopekit.images.selection import Selection
from scopekit.signals import EndedBySignal, ending_signals


class Device(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class ResultFormat(StrEnum):
    """File format of results."""

    tif = "tif"
    zarr = "zarr"


class FramesAre(StrEnum):
    """What the images of a file are, where it says otherwise."""

    planes = "planes"


class OutputType(StrEnum):
    """Number type of result files."""

    float32 = "float32"
    uint16 = "uint16"


DeviceOption = Annotated[
    Device,
    typer.Option(help="Where to compute; auto takes CUDA when there is one, mps is Apple's GPU."),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="SCHEDULER",
        help="Spread the time points over the workers of a dask cluster: its scheduler's address, "
        "or scheduler file.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing results.")]
OutFolderOption = Annotated[Path, typer.Option("--out", help="Folder for the results.")]
MemoryOption = Annotated[
    float | None,
    typer.Option(
        "--max-memory-gb",
        min=0.1,
        help="Peak memory in GB; tiles are chosen to fit.",
        show_default="80 % of what is free",
    ),
]
OutputTypeOption = Annotated[
    OutputType, typer.Option("--dtype", help="Number type; uint16 is scaled to full range.")
]
FormatOption = Annotated[
    ResultFormat | None,
    typer.Option(
        "--format",
        help="TIFF, or OME-Zarr: one store a series, frame by frame; folders are series then.",
        show_default="that of the input",
    ),
]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        "--channel", min=0, help="Which channel, from 0, of files of several.", show_default=False
    ),
]
PositionOption = Annotated[
    int | None,
    typer.Option(
        "--position",
        min=0,
        help="Which position, from 0, of files of several.",
        show_default=False,
    ),
]
FramesAreOption = Annotated[
    FramesAre | None,
    typer.Option(
        "--frames-are",
        help="planes: what files call time points or channels is a stack's planes, or views.",
        show_default=False,
    ),
]
# What torch, NumPy and the random numbers of Python all take.
_LARGEST_SEED = 2**63 - 1
SeedOption = Annotated[
    int, typer.Option(min=0, max=_LARGEST_SEED, help="Seed of the random numbers.")
]

# Earlier names of the option --microscope, still understood.
MICROSCOPE_ALIASES = {"preset": "microscope", "optics": "microscope"}

# For the callback of a program that says something of its own when no command is given.
BARE: dict[str, Any] = {"invoke_without_command": True, "no_args_is_help": False}

# Which package holds it depends on typer's version.
_USAGE_ERROR: Any = typer.BadParameter.__base__


def new_app(help_text: str, aliases: Mapping[str, str] = MappingProxyType({})) -> typer.Typer:
    """Return an application without prompts or tracebacks, with completion for shells.

    Parameters
    ----------
    help_text
        What it does.
    aliases
        Other names that options of any command are understood by, to the names in the help;
        without dashes.
    """
    return typer.Typer(
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"token_normalize_func": lambda name: aliases.get(name, name)},
    )


def tell_next(context: typer.Context, steps: str) -> None:
    """Print the next steps if the program was called without a command.

    For a callback that was registered with ``BARE``.
    """
    if context.invoked_subcommand is None:
        print(steps.strip())


def version_option(program: str, version: str) -> Any:
    """Return a ``--version`` option, for ``Annotated[bool, ...]`` in an app's callback."""

    def show(wanted: bool) -> None:
        if wanted:
            print(f"{program} {version}")
            raise typer.Exit

    return typer.Option("--version", callback=show, is_eager=True, help="Show the version.")


def whole_numbers(text: str | None, option: str) -> list[int] | None:
    """Return the whole numbers of an option like ``6,7,8``; raise `UserError` if it has others."""
    try:
        return None if text is None else [int(part) for part in text.split(",")]
    except ValueError as failure:
        raise UserError(f"{option} {text}: give whole numbers with commas between") from failure


def select(
    channel: int | None, position: int | None, frames_are: FramesAre | None = None
) -> Selection:
    """Return what the options select of a file."""
    return Selection(channel, position, None if frames_are is None else "planes")


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def run(app: typer.Typer) -> None:
    """Run ``app``; what the user can mend ends in one line on standard error and exit code 2."""
    warnings.showwarning = _show_warning
    # What Apple's GPU cannot do yet, the CPU does; PyTorch looks at it when it is imported.
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")
    # Names of files need not be text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with options_named(), ending_signals():
        _run(app)


def _run(app: typer.Typer) -> None:
    try:
        code = app(standalone_mode=False)
    except EndedBySignal as failure:
        with suppress(OSError):  # the terminal may be gone, as after SIGHUP
            print(f"ended by {failure.name}: nothing half-written is left", file=sys.stderr)
        raise
    except _USAGE_ERROR as failure:
        _fail_usage(failure)
    except Exception as failure:
        line = line_of(failure)
        if line is None:
            raise
        _fail(line)
    else:
        sys.exit(code)


def _fail_usage(failure: Any) -> NoReturn:
    message = failure.format_message()
    if not message:  # the help was shown instead, as nothing was asked for
        sys.exit(failure.exit_code)
    command = failure.ctx.command_path if failure.ctx is not None else Path(sys.argv[0]).name
    _fail(f"{message.rstrip('.')}; see {command} --help")


def _fail(line: str) -> NoReturn:
    print("error: " + " ".join(line.split()), file=sys.stderr)
    sys.exit(2)
