"""Decomposition, network, reconstruction and training step of serenet against plain operators."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import serenet
from bench.light_field import PRESET, plain_projection
from bench.timing import Bench, Result, Work
from optics import NLLMPG, LightFieldOperator, phase_space_psf, psf_shift
from optics.convolution import padded_size
from scopekit.memory import keep_freed_memory
from serenet.networks.serenet import SeReNet
from serenet.training.crops import TrainingData
from serenet.training.recipe import Crop, Task
from serenet.training.sections import Perceptual
from serenet.training.serenet_family import Projector, SelfSupervised
from serenet.training.settings import load_settings

SCALE = PRESET.lateral_scale
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def field_side(bench: Bench) -> int:
    """Return the side of the views: those of the whole camera, or a quarter of that field."""
    return 12 if bench.tiny else 237 if bench.full else 99


def depths_of(bench: Bench) -> tuple[float, ...]:
    return PRESET.depths_um[::20] if bench.tiny else PRESET.depths_um


@functools.cache
def shift_of(depths: tuple[float, ...], size: int) -> Tensor:
    """Return the PSF shift (49, D, 2), object pixels."""
    return psf_shift(phase_space_psf(PRESET, depths, size=size))


def shift_for(bench: Bench) -> Tensor:
    return shift_of(depths_of(bench), 31 if bench.tiny else 195).to(bench.device)


def random_views(bench: Bench) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    side = field_side(bench)
    coarse = torch.rand((1, 49, side // 3, side // 3), generator=generator) ** 4
    views = F.interpolate(coarse, size=(side, side), mode="bilinear")[0]
    return (500 * views).to(bench.device)


def load_serenet(bench: Bench, checkpoint: Path | None) -> SeReNet:
    """Return a serenet of these weights, or of random ones."""
    model = serenet.load_checkpoint(checkpoint) if checkpoint else serenet.build_model("serenet")
    assert isinstance(model, SeReNet)
    return model.to(bench.device)


def models(bench: Bench) -> tuple[SeReNet, SeReNet]:
    """Return the network as users get it, and the same with contiguous kernels."""
    torch.manual_seed(0)
    ours, plain = (load_serenet(bench, bench.checkpoint).eval() for _ in range(2))
    plain.load_state_dict(ours.state_dict())
    for parameter in plain.parameters():
        parameter.data = parameter.data.contiguous()
    ours.lay_out()
    return ours, plain


def plain_decomposition(views: Tensor, shift: Tensor) -> Tensor:
    """Return every view sampled at its shifted places, one view after the other."""
    height, width = views.shape[-2:]
    y = torch.arange(height, device=views.device) + shift[..., 0, None]
    x = torch.arange(width, device=views.device) + shift[..., 1, None]
    # -1 and 1 are the centres of the first and the last pixel.
    y, x = 2 * y / (height - 1) - 1, 2 * x / (width - 1) - 1
    shape = (shift.shape[1], height, width)
    sampled = []
    for view, rows, columns in zip(views, y, x, strict=True):
        at = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1)
        stack = view[None, None].expand(shape[0], 1, -1, -1)
        sampled.append(F.grid_sample(stack, at, align_corners=True)[:, 0])
    return torch.stack(sampled)


def plain_network(model: SeReNet, inputs: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Return the volume, and it before the final resize, by contiguous float32 operators."""

    def convolve(x: Tensor, stack: nn.Module) -> Tensor:
        for layer in stack.children():
            if isinstance(layer, nn.Conv3d):
                x = F.leaky_relu(F.conv3d(x, layer.weight, layer.bias, padding=1), 0.1)
        return x

    def enlarge(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=False)

    x = convolve(enlarge(convolve(inputs, model.coarse)), model.middle)
    x = convolve(enlarge(x), model.fine)
    size = (x.shape[2], *(round(n * scale) for n in inputs.shape[-2:]))
    return F.interpolate(x, size=size, mode="trilinear", align_corners=False), x


def network_flops(model: SeReNet, n_depths: int, area: int) -> float:
    """Return the operations of the convolutions for so many view pixels."""
    return sum(
        2.0 * layer.weight.numel() * n_depths * area * enlargement**2
        for stack, enlargement in ((model.coarse, 1), (model.middle, 2), (model.fine, 4))
        for layer in stack.children()
        if isinstance(layer, nn.Conv3d)
    )


def volume_values(n_depths: int, side: int) -> int:
    return n_depths * round(side * SCALE) ** 2


def bench_decomposition(bench: Bench) -> list[Result]:
    views, shift = random_views(bench), shift_for(bench) / SCALE
    values = shift.shape[0] * shift.shape[1] * views.shape[-1] ** 2
    return [
        bench.compare(
            f"decomposition of {tuple(views.shape)} views to {shift.shape[1]} depths",
            lambda: serenet.decompose(views, shift),
            "grid_sample a view",
            lambda: plain_decomposition(views, shift),
            Work(6 * values, 4 * (values + views.numel())),
        )
    ]


@torch.inference_mode()
def bench_network(bench: Bench, precision: str) -> list[Result]:
    views, shift = random_views(bench), shift_for(bench) / SCALE
    inputs = serenet.decompose(views, shift)[None]
    laid_out = inputs.contiguous(memory_format=torch.channels_last_3d)
    ours, plain = models(bench)
    side, n_depths = views.shape[-1], inputs.shape[2]

    def network() -> Tensor:
        enabled = precision != "float32"
        with torch.autocast(bench.device.type, DTYPES[precision], enabled=enabled):
            volume: Tensor = ours(laid_out, SCALE)
        return volume.float()

    return [
        bench.compare(
            f"network {tuple(inputs.shape[1:])}, {precision}",
            network,
            "contiguous float32",
            lambda: plain_network(plain, inputs, SCALE)[0],
            Work(
                network_flops(ours, n_depths, side**2),
                4 * (inputs.numel() + volume_values(n_depths, side)),
                bench.float32 if precision == "float32" else precision,
            ),
            repeats=2,
        )
    ]


@torch.inference_mode()
def bench_reconstruct(bench: Bench, *, half: bool) -> list[Result]:
    views, shift = random_views(bench), shift_for(bench)
    host_views = views.cpu()
    ours, plain = models(bench)
    side, n_depths = views.shape[-1], shift.shape[1]

    def plainly() -> Tensor:
        inputs = plain_decomposition(host_views.to(bench.device), shift / SCALE)[None]
        return plain_network(plain, inputs, SCALE)[0][0, 0].clamp(min=0).cpu()

    half_name = "bfloat16" if bench.device.type == "cpu" else "float16"
    values = volume_values(n_depths, side)
    return [
        bench.compare(
            f"reconstruct {tuple(views.shape)} views to {n_depths} depths, "
            + (half_name if half else "float32"),
            lambda: serenet.reconstruct(host_views, ours, shift, SCALE, half=half),
            "grid_sample a view, contiguous float32 network",
            plainly,
            Work(
                network_flops(ours, n_depths, side**2),
                4 * (views.numel() + values),
                half_name if half else bench.float32,
            ),
            repeats=2,
        )
    ]


class NoData:
    """Stands for training data where the crops are given."""

    def __len__(self) -> int:
        return 1


def training_case(bench: Bench, side: int) -> tuple[SelfSupervised, Crop, SeReNet]:
    """Return the recipe of serenet, a crop of that side, and the plain network."""
    torch.manual_seed(0)
    settings = load_settings("serenet_nnum13").model_copy(
        update={"perceptual": Perceptual(weight=0)}
    )
    psf = phase_space_psf(PRESET, depths_of(bench), size=31 if bench.tiny else 195)
    microscope = PRESET.with_depths(depths_of(bench))
    projector = Projector(microscope, LightFieldOperator(psf.to(bench.device)), shift_for(bench))
    model, plain = (load_serenet(bench, None).train() for _ in range(2))
    with torch.no_grad():
        # Light everywhere: where there is almost none the gradient is ill-conditioned.
        *_, last_bias = model.fine.parameters()
        last_bias.add_(10)
    plain.load_state_dict(model.state_dict())
    model.lay_out()
    inputs = 100 * torch.rand(49, side, side)
    projected = tuple(range(0, 49, 4))
    crop = Crop("random", inputs, inputs[list(projected)], projected)
    no_data = cast(TrainingData, NoData())
    recipe = SelfSupervised(model, projector, Task(no_data, no_data, settings), perceptual=None)
    return recipe, crop, plain


def gradients(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def plain_step(recipe: SelfSupervised, crop: Crop, model: SeReNet) -> Tensor:
    """Return the gradient of the training loss, every view projected by complex FFTs."""
    model.zero_grad(set_to_none=True)
    device, likelihood = recipe.projector.shift.device, NLLMPG(0, 9)
    inputs = plain_decomposition(crop.inputs.to(device), recipe.projector.shift / SCALE)[None]
    volume, enlarged = plain_network(model, inputs, SCALE)
    leaf = volume.detach().requires_grad_()
    targets = crop.target.to(device)
    peaks = torch.quantile(targets.flatten(1), 0.999, dim=1).abs() + 1
    # View by view, or the graph of all transforms would not fit the memory.
    for target, view in zip(targets, crop.projected, strict=True):
        projected = plain_projection(leaf[0, 0], recipe.projector.operator.psf[view])
        resized = F.interpolate(projected[None, None], size=target.shape, mode="bilinear")[0, 0]
        (likelihood(resized, target) / peaks.mean() / len(peaks)).backward()
    negativity = 1000 * (enlarged - enlarged.abs()).abs().mean()
    torch.autograd.backward([volume, negativity], [leaf.grad, torch.ones_like(negativity)])
    return gradients(model)


def step_work(bench: Bench, recipe: SelfSupervised, side: int, precision: str) -> Work:
    """Return the work of a step: three times the network's, but for the input's gradient."""
    n_depths, size = recipe.projector.operator.psf.shape[1:3]
    network = network_flops(recipe.model, n_depths, side**2)
    first = 2.0 * next(recipe.model.coarse.parameters()).numel() * n_depths * side**2
    projected, volume = 13, round(side * SCALE)
    points = padded_size(volume, size) ** 2
    # Projection and its adjoint.
    transforms = 2 * (n_depths + projected * n_depths + projected)
    optics = transforms * 2.5 * points * float(torch.tensor(points).log2())
    optics += 2 * projected * n_depths * 4 * points
    moved = 4 * (49 * side**2 + projected * n_depths * size**2)
    return Work(3 * network - first + optics, moved, precision)


def bench_training(bench: Bench, side: int, precision: str) -> list[Result]:
    keep_freed_memory()
    side = 9 if bench.tiny else side
    recipe, crop, plain = training_case(bench, side)

    def network(*inputs: object) -> object:
        enabled = precision != "float32"
        with torch.autocast(bench.device.type, DTYPES[precision], enabled=enabled):
            return recipe.model(*inputs)

    def ours() -> Tensor:
        recipe.model.zero_grad(set_to_none=True)
        torch.stack(list(recipe.losses(network, [crop]).values())).sum().backward()
        return gradients(recipe.model)

    n_depths = len(depths_of(bench))
    peak = bench.float32 if precision == "float32" else precision
    return [
        bench.compare(
            f"training step of serenet, crop {side}, {n_depths} depths, without LPIPS, {precision}",
            ours,
            "contiguous float32 network, complex FFTs a view and depth",
            lambda: plain_step(recipe, crop, plain),
            step_work(bench, recipe, side, peak),
            repeats=2 if side < 99 else 1,
        )
    ]


SERENET_CASES: dict[str, Callable[[Bench], list[Result]]] = {
    "decomposition": bench_decomposition,
    **{f"network-{name}": functools.partial(bench_network, precision=name) for name in DTYPES},
    "reconstruct-float32": functools.partial(bench_reconstruct, half=False),
    "reconstruct-half": functools.partial(bench_reconstruct, half=True),
    "training-33": functools.partial(bench_training, side=33, precision="float32"),
    "training-99": functools.partial(bench_training, side=99, precision="float32"),
    "training-99-bfloat16": functools.partial(bench_training, side=99, precision="bfloat16"),
}
