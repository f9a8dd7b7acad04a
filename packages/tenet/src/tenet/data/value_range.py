"""Which recorded values are 0 and 1 to the network."""

import math

from scopekit.errors import Page, UserError

ValueRange = tuple[float, float]


def require_range(value_range: ValueRange | None) -> None:
    """Raise `UserError` unless the values that are 0 and 1 are numbers, 0's the lower."""
    if value_range is None:
        return
    low, high = value_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(
            f"`value_range={low:g} {high:g}`: give the lower value first", page=Page.value_range
        )


def scale_of(
    where: str,
    least: float,
    largest: float,
    wanted: ValueRange | None = None,
    full_scale: float | None = None,
) -> ValueRange:
    """Return the recorded values of a stack that are 0 and 1 to the network.

    Parameters
    ----------
    where
        The stack, for messages.
    least, largest
        Its values; NaN or infinite if any of them is.
    wanted
        What was asked for; by default ``full_scale``, or ``least`` and ``largest``.
    full_scale
        Largest value of the camera, where it is known: 1, and 0 is 0.

    Raises
    ------
    UserError
        If the stack is constant, holds NaN or infinite values, or lies outside what was asked for.
    """
    require_range(wanted)
    if not (math.isfinite(least) and math.isfinite(largest)):
        raise UserError(
            f"{where}: NaN or infinite values; replace them by numbers first", page=Page.files
        )
    if least == largest:
        raise UserError(
            f"{where}: constant, every voxel is {least:g}; leave it out", page=Page.files
        )
    if wanted is None:
        return (least, largest) if full_scale is None else (0.0, full_scale)
    zero, one = wanted
    if largest <= zero or least >= one:
        raise UserError(
            f"{where}: its values, {least:g} to {largest:g}, all lie outside "
            f"`value_range={zero:g} {one:g}`; give values among them",
            page=Page.value_range,
        )
    return wanted
