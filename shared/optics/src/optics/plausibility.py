"""What optics can be: limits of every quantity, and the unit that was likely meant beyond them."""

from typing import Any

_UM = " um"
# With room on both sides of what microscopes have. Names as in `optics.LightFieldMicroscope` and
# `optics.gibson_lanni`.
_LIMITS: dict[str, tuple[float, float, str]] = {
    "magnification": (1.0, 250.0, ""),
    "numerical_aperture": (0.01, 1.7, ""),
    "refractive_index": (1.0, 2.0, ""),
    "wavelength_um": (0.2, 2.0, _UM),
    "microlens_pitch_um": (5.0, 5000.0, _UM),
    "microlens_focal_length_um": (50.0, 200_000.0, _UM),
    "depth_step_um": (0.01, 20_000.0, _UM),
    "NA": (0.01, 1.7, ""),
    "wavelength": (0.2, 3.0, _UM),
    "M": (1.0, 250.0, ""),
    **dict.fromkeys(("ns", "ng0", "ng", "ni0", "ni"), (1.0, 2.0, "")),
    **dict.fromkeys(("ti0", "tg0", "tg", "pZ"), (0.0, 20_000.0, _UM)),
    "res_lateral": (0.005, 50.0, _UM),
    "res_axial": (0.005, 200.0, _UM),
}
_OTHER_UNITS = {"nm": 1e-3, "mm": 1e3, "m": 1e6}


def implausible(name: str, value: Any) -> str | None:
    """Say what is wrong with a quantity of a microscope, ``None`` if it can be.

    Parameters
    ----------
    name
        Its key in settings; those without limits can be anything.
    value
        In um, if it is a length.
    """
    if name not in _LIMITS or not isinstance(value, int | float):
        return None
    low, high, unit = _LIMITS[name]
    if low <= value <= high:
        return None
    text = f"{name} is {value:g}; it must lie between {low:g} and {high:g}{unit}"
    if unit:
        for other, factor in _OTHER_UNITS.items():
            if low <= value * factor <= high:
                return f"{text}. Is it in {other}? Then give {value * factor:g}"
    return text
