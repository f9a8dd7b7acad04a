"""JNet against its plain definition in contiguous float32, the one that the tests compare with."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.plain.jnet import plain_unet
from bench.timing import Bench, Result, Work, counted_flops
from tenet import JNet, load_config

# Of the published network for two-photon stacks; its microscope has no part in this.
CHANNELS, SCALE = (16, 32, 64, 128, 256), 10
PLAIN = "one layer after the other, contiguous float32"


class Network(nn.Module):
    """JNet without its microscope; from (B, 1, Z, Y, X) to structure, then brightness."""

    def __init__(self, *, tiny: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        changes = {
            "hidden_channels_list": CHANNELS[: 3 if tiny else None],
            "attn_list": (),
            "nblocks": 2,
            # Both shall have the same result.
            "dropout": 0.0,
            "scale": SCALE,
        }
        self.jnet = JNet(load_config("demo").params.model_copy(update=changes))

    def forward(self, image: Tensor) -> Tensor:
        """Return (2 B, 1, scale Z, Y, X)."""
        return torch.cat(self.jnet.enhance(image))


def state_of(network: Network, device: torch.device) -> dict[str, Tensor]:
    """Return a contiguous copy of the network's state for the plain form."""
    state = network.jnet.state_dict()
    return {name: tensor.detach().clone().to(device) for name, tensor in state.items()}


@torch.no_grad()
def bench_forward(bench: Bench) -> list[Result]:
    ours = Network(tiny=bench.tiny).eval()
    state = state_of(ours, bench.device)
    size = (2, 16, 16) if bench.tiny else (24, 112, 112)
    image = torch.rand((1, 1, *size))
    work = Work(counted_flops(ours, image), 4 * (1 + 2 * SCALE) * image.numel(), bench.float32)
    ours.to(bench.device)
    image = image.to(bench.device)
    return [
        bench.compare(
            f"forward of JNet, {size} to {SCALE} times the planes",
            lambda: ours(image),
            PLAIN,
            lambda: torch.cat(plain_unet(state, image, SCALE, False)),
            work,
            repeats=2,
        )
    ]


def bench_step(bench: Bench) -> list[Result]:
    ours = Network(tiny=bench.tiny)
    state = state_of(ours, bench.device)
    size = (24, 112, 112) if bench.device.type == "cuda" else (8, 64, 64)
    size = (2, 16, 16) if bench.tiny else size
    image = torch.rand((1, 1, *size))
    # With random weights float32 tells the gradient to some percent only, in either form: ReLU and
    # maximum change sides. In double both agree to 1e-11.
    # Of a convolution, the gradients of input and kernel take as long as itself.
    work = Work(
        3 * counted_flops(ours.eval(), image), 8 * (1 + 2 * SCALE) * image.numel(), bench.float32
    )
    ours.train().to(bench.device)
    image = image.to(bench.device)
    own = ours.jnet.network_parameters()
    leaves = [state[name].requires_grad_() for name in own]

    def gradient(out: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        found = torch.autograd.grad(out.square().mean(), parameters)
        return torch.cat([g.flatten() for g in found])

    return [
        bench.compare(
            f"training step of JNet, {size} to {SCALE} times the planes, without dropout",
            lambda: gradient(ours(image), [*own.values()]),
            PLAIN,
            lambda: gradient(torch.cat(plain_unet(state, image, SCALE, True)), leaves),
            work,
        )
    ]


JNET_CASES = {"jnet-forward": bench_forward, "jnet-step": bench_step}
