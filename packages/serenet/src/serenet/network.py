"""What all reconstruction networks have in common."""

from typing import Any

from torch import nn


class Network(nn.Module):
    """A network made by `serenet.build_model`, which fills in what it was made from.

    Attributes
    ----------
    published_name, published_args
        Name and constructor arguments under which the network was published.
    method
        What it does, the ending of its results' names.
    """

    published_name: str = ""
    method: str = ""

    def __init__(self) -> None:
        super().__init__()
        self.published_args: dict[str, Any] = {}
