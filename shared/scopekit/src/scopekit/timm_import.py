"""The one place that imports timm, also beside a PyTorch that torchvision was not built for.

timm imports torchvision, whose wheels are built for PyTorch with CUDA. Beside a PyTorch for the
CPU alone its compiled part cannot load, and its import stops at an operator of that part. timm
calls none of these operators, so declaring them is enough.
"""

import importlib
from types import ModuleType

import torch

from scopekit.errors import UserError

_MISSING_OPERATOR = "operator torchvision::nms does not exist"
# Operators vanish with the library that declares them.
_declared: list[torch.library.Library] = []


def import_timm(module: str = "timm") -> ModuleType:
    """Import timm or one of its modules; it takes seconds, so call it only where timm is used.

    Parameters
    ----------
    module
        ``timm`` or a module of it, such as ``timm.scheduler``.

    Raises
    ------
    UserError
        If timm or what it needs is not installed, or does not fit the installed PyTorch.
    """
    try:
        try:
            importlib.import_module("torchvision")
        except RuntimeError as failure:
            if _MISSING_OPERATOR not in str(failure):
                raise
            _declare_operators()
        return importlib.import_module(module)
    except ModuleNotFoundError as failure:
        raise UserError(
            f"timm cannot be imported, '{failure.name}' is missing: pip install timm"
        ) from failure
    except (ImportError, OSError, RuntimeError, AttributeError) as failure:
        raise UserError(
            f"timm cannot be imported beside PyTorch {torch.__version__} ({failure}); install the "
            "torchvision that belongs to this PyTorch (pytorch.org, 'Get started')"
        ) from failure


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)
    _declared.append(library)
