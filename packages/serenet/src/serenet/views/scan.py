"""3 x 3 scans: the order of their exposures, and the views that are made of them."""

from collections.abc import Sequence

from scopekit.errors import UserError

SIDE = 3
SCAN_ORDER = (6, 7, 8, 5, 2, 1, 0, 3, 4)
"""Position ``3 row + column`` of every exposure in turn."""
MIDDLE_TIME = 4


def require_order(order: Sequence[int] | None, side: int = SIDE) -> tuple[int, ...]:
    """Return the order of a scan of ``side`` x ``side`` positions, by default that of 3 x 3 or 1.

    Raises
    ------
    UserError
        If it does not name every position once, or there is no default.
    """
    n_scan = side**2
    if order is None:
        if side not in (1, SIDE):
            raise UserError(
                f"the microscope scans {side} x {side} positions: give their order, {n_scan} "
                "numbers from 0"
            )
        return SCAN_ORDER if side == SIDE else (0,)
    if sorted(order) != list(range(n_scan)):
        raise UserError(
            f"scan order {' '.join(map(str, order))}: the microscope scans {side} x {side} "
            f"positions; give the position {side} row + column, each of 0 to {n_scan - 1} once, "
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
