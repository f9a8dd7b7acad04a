"""Muon for the kernels of a network, Adam for everything else, as one optimizer.

Muon: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; with the scale of Liu et al.,
arXiv 2502.16982, so that its rate means what Adam's does.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from scopekit.errors import UserError
from scopekit.training.recipe import Loop

_MOMENTUM = 0.95
# Adam's rate beside Muon's.
_ADAM_SHARE = 0.5


class MuonAdam(torch.optim.Optimizer):
    """Muon on every convolution kernel but the last, Adam on biases, norms and the last kernel.

    A kernel (O, I, ...) is a matrix of O rows to Muon, on the kernel's own memory.

    Parameters
    ----------
    network
        What to train; parameters without gradient are left alone.
    rate
        Muon's learning rate; Adam's is half of it. Groups of `param_groups` hold their ``share``.

    Raises
    ------
    UserError
        If this PyTorch has no Muon (2.9 or newer has).
    """

    def __init__(self, network: nn.Module, rate: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(
                f"optimizer muon needs PyTorch 2.9 or newer, this is {torch.__version__}: "
                "update it, or take optimizer: adam"
            )
        layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        kernels = [
            m.weight for m in network.modules() if isinstance(m, layers) and m.weight.requires_grad
        ][:-1]
        chosen = {id(kernel) for kernel in kernels}
        rest = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
        groups = [
            {"params": parameters, "lr": rate * share, "share": share}
            for parameters, share in ((kernels, 1.0), (rest, _ADAM_SHARE))
            if parameters
        ]
        super().__init__(groups, {})
        self._kernels = kernels
        self._matrices = [nn.Parameter(as_matrix(kernel.detach(), kernel)) for kernel in kernels]
        self._parts: dict[str, torch.optim.Optimizer] = {}
        if kernels:
            self._parts["muon"] = torch.optim.Muon(
                self._matrices,
                lr=rate,
                momentum=_MOMENTUM,
                weight_decay=0.0,
                adjust_lr_fn="match_rms_adamw",
            )
        if rest:
            self._parts["adam"] = torch.optim.Adam(rest, lr=rate * _ADAM_SHARE)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Change the parameters by their gradients, at the rates of `param_groups`."""
        assert closure is None
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else as_matrix(kernel.grad, kernel)
        for group, part in zip(self.param_groups, self._parts.values(), strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to go on exactly."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a state of the same network."""
        for name, part in self._parts.items():
            part.load_state_dict(state_dict[name])


def as_matrix(kernel: Tensor, like: Tensor) -> Tensor:
    """Return a kernel or gradient (O, I, ...) as a matrix (O, the rest).

    Muon is indifferent to the order of the columns, so they follow the memory of ``like``; the
    matrix of ``like`` itself shares that memory.

    Raises
    ------
    ValueError
        If the memory of ``like`` is neither contiguous nor channels last.
    """
    if not like.is_contiguous():
        order = (0, *range(2, like.dim()), 1)
        if not like.permute(order).is_contiguous():
            raise ValueError(f"a kernel of strides {like.stride()} is no matrix in its memory")
        kernel = kernel.permute(order)
    return kernel.reshape(len(kernel), -1)


def optimizer_of(model: nn.Module, loop: Loop) -> torch.optim.Optimizer:
    """Return the optimizer that the loop names."""
    if loop.optimizer == "muon":
        return MuonAdam(model, loop.learning_rate)
    trained = [p for p in model.parameters() if p.requires_grad]
    if loop.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=loop.learning_rate)
    return torch.optim.Adam(trained, lr=loop.learning_rate)
