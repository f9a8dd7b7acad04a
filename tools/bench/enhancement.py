"""`tenet.enhancement.stack` with the shipped weights against the method's plain definition."""

import torch
from torch import Tensor, nn

from bench.plain.jnet import plain_jnet
from bench.timing import Bench, Result, Work, counted_flops
from tenet import JNet, load_config
from tenet.config.files import SHIPPED
from tenet.enhancement.stack import enhance
from tenet.network.jnet import hill
from tenet.network.weights import load_model


class Network(nn.Module):
    """JNet's two volumes as one tensor."""

    def __init__(self, jnet: JNet) -> None:
        super().__init__()
        self.jnet = jnet

    def forward(self, image: Tensor) -> Tensor:
        """Return (2 B, 1, scale Z, Y, X)."""
        return torch.cat(self.jnet.enhance(image))


@torch.no_grad()
def bench_enhance(bench: Bench) -> list[Result]:
    params = load_config("demo").params
    model = load_model(SHIPPED / "demo_pretrain.pt", params).eval()
    size = (4, 24, 24) if bench.tiny else (16, 128, 128)
    stack = torch.rand(size, generator=torch.Generator().manual_seed(0))
    flops = counted_flops(Network(model), stack[None, None])
    model.to(bench.device)
    state, section = model.state_dict(), params.model_dump()

    def ours() -> Tensor:
        made = enhance(model, stack, value_range=(0, 1))
        return torch.cat([v.flatten() for v in (made.structure, made.brightness)])

    def plain() -> Tensor:
        made = plain_jnet(state, section, hill(stack)[None, None].to(bench.device))
        structure, brightness = made["enhanced_image"], made["estim_luminance"]
        assert structure is not None
        assert brightness is not None
        return torch.cat([v.flatten() for v in (structure, brightness)]).cpu()

    values = (2 + 2 * params.scale) * stack.numel()
    return [
        bench.compare(
            f"enhance {size}, structure, brightness and image, demo weights",
            ours,
            "one layer after the other, direct convolution with the PSF, contiguous float32",
            plain,
            Work(flops, 4 * values, bench.float32),
            repeats=2,
        )
    ]
