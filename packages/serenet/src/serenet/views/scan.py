"""3 x 3 scans: the order of their exposures, and the views that are made of them."""

from collections.abc import Sequence

from scopekit.errors import UserError

SIDE = 3
SCAN_ORDER = (6, 7, 8, 5, 2, 1, 0, 3, 4)
"""Position ``3 row + column`` of every exposure in turn."""
MIDDLE_TIME = 4


def checked_order(order: Sequence[int] | None) -> tuple[int, ...]:
    """Return the scan order, by default `SCAN_ORDER`.

    Raises
    ------
    UserError
        If it is not made of the numbers 0 to 8.
    """
    if order is None:
        return SCAN_ORDER
    if sorted(order) != list(range(SIDE**2)):
        raise UserError(
            f"scan order {' '.join(map(str, order))}: give the position 3 row + column, 0 to 8, "
            "of every exposure in turn"
        )
    return tuple(order)


def check_scanned(shape: Sequence[int], name: str = "views") -> None:
    """Raise `UserError` if arrays of this shape are not interlaced views of a 3 x 3 scan."""
    if len(shape) < 3 or 0 in shape or shape[-2] % SIDE or shape[-1] % SIDE:
        raise UserError(
            f"{name}: shape {tuple(shape)}; interlaced views of a 3 x 3 scan have sides that are "
            "multiples of 3: crop them from the first scan position on"
        )
