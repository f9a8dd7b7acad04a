"""Zarr, which comes with an extra: imported when a store is read or written."""

from importlib import import_module
from types import ModuleType

from scopekit.errors import UserError


def zarr() -> ModuleType:
    """Return the module ``zarr``.

    Raises
    ------
    UserError
        If it is not installed, or older than 3.
    """
    try:
        module = import_module("zarr")
    except ImportError as failure:
        raise UserError(
            "OME-Zarr needs the package zarr: run 'pip install zarr', or in the clone "
            "'pip install \"./packages/tenet[zarr]\"' (or serenet[zarr])"
        ) from failure
    if int(module.__version__.partition(".")[0]) < 3:
        raise UserError(
            f"OME-Zarr needs zarr 3, here is {module.__version__}: run 'pip install -U zarr'"
        )
    return module
