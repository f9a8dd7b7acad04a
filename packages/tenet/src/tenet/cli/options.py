"""Options that several commands of ``tenet`` have."""

from typing import Annotated

import typer

ValueRangeOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Recorded values that are 0 and 1 to the network, others are clipped.",
        show_default="found (any_scale), or each stack's least and largest",
    ),
]
