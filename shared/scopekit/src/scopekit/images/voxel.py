"""Voxel sizes as files tell them: units of every format, what is known of a step, and what is not.

A step is known, unknown (``None``: nothing is made up for it), or absurd: then the file is refused.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from scopekit.errors import Page, UserError

VoxelSize = tuple[float, float, float]
PartialVoxelSize = tuple[float | None, float | None, float | None]
Told = tuple[object, object] | None
"""Value and unit, as a file has them."""

# In lower case; the two micro signs are one letter there.
_UM_PER_UNIT = {
    **dict.fromkeys(("m", "meter", "metre"), 1e6),
    **dict.fromkeys(("dm", "decimeter", "decimetre"), 1e5),
    **dict.fromkeys(("cm", "centimeter", "centimetre"), 1e4),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), 1e3),
    **dict.fromkeys(("um", "μm", "μ", "micron", "micrometer", "micrometre"), 1.0),
    **dict.fromkeys(("nm", "nanometer", "nanometre"), 1e-3),
    **dict.fromkeys(("å", "a", "angstrom", "ångström", "ångstrom"), 1e-4),
    **dict.fromkeys(("pm", "picometer", "picometre"), 1e-6),
    **dict.fromkeys(("in", "inch", "inche", '"'), 25400.0),
    **dict.fromkeys(("ft", "foot", "feet"), 304800.0),
    **dict.fromkeys(("thou", "mil"), 25.4),
}
# A nanometre to a centimetre: no light microscope is finer or coarser.
_FINEST_UM, _COARSEST_UM = 1e-3, 1e4


@dataclass(frozen=True)
class Steps:
    """What a file tells about the distances of its voxels.

    Attributes
    ----------
    z_um, y_um, x_um
        In um, ``None`` where the file does not tell.
    source
        What tells it: ``ImageJ metadata``; empty if nothing does.
    """

    z_um: float | None = None
    y_um: float | None = None
    x_um: float | None = None
    source: str = ""

    @property
    def whole(self) -> VoxelSize | None:
        """Return the (z, y, x) step in um, ``None`` unless all three are known."""
        if self.z_um is None or self.y_um is None or self.x_um is None:
            return None
        return self.z_um, self.y_um, self.x_um


UNKNOWN = Steps()


def um_per_unit(name: object) -> float | None:
    r"""Return the length of a unit in um, ``None`` for what is no known unit of length.

    ImageJ writes letters beyond ASCII as ``\u00B5``.
    """
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), str(name))
    text = text.strip().casefold()
    return _UM_PER_UNIT.get(text) or _UM_PER_UNIT.get(text.removesuffix("s"))


def known_steps(
    path: Path, source: str, *, z: Told = None, y: Told = None, x: Told = None
) -> Steps:
    """Return the steps that a file tells.

    Parameters
    ----------
    path
        The file.
    source
        What tells them.
    z, y, x
        Number, or its text, and unit; ``None`` where nothing is told.

    Raises
    ------
    UserError
        If a value is no number, or no step that a light microscope can have.
    """
    z_um, y_um, x_um = (
        _step_um(path, source, axis, told) for axis, told in zip("zyx", (z, y, x), strict=True)
    )
    return Steps(z_um, y_um, x_um, source) if z_um or y_um or x_um else UNKNOWN


def _step_um(path: Path, source: str, axis: str, told: Told) -> float | None:
    value, unit = told or (None, None)
    um = um_per_unit(unit)
    if value is None or um is None:
        return None
    try:
        step = float(str(value)) * um
    except ValueError:
        step = math.nan
    # A little more, for steps that were rounded or converted.
    if not _FINEST_UM * 0.999 <= step <= _COARSEST_UM * 1.001:
        raise UserError(
            f"{path}: its {source} give a step of {value} {unit} along {axis}, which no light "
            "microscope has; correct it (in ImageJ: Image > Properties), or export the file again",
            page=Page.files,
        )
    return step
