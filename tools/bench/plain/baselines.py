"""The baseline networks once more, in plain functions of published weights, to compare with.

Each function takes a state dict under the published names and an input, and returns what the
published network returns in evaluation mode. They are written for reading, layer by layer in the
order of the description, and share nothing with the package.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

State = Mapping[str, Tensor]


def batch_norm(state: State, name: str, x: Tensor) -> Tensor:
    """Normalise by the running statistics of the layer ``name``.

    Without them in the state, by the batch's own, as in training.
    """
    shape = (1, -1, *(1 for _ in x.shape[2:]))
    weight, bias = (state[f"{name}.{part}"].reshape(shape) for part in ("weight", "bias"))
    if f"{name}.running_mean" in state:
        stored = (state[f"{name}.running_{part}"] for part in ("mean", "var"))
        mean, variance = (values.reshape(shape) for values in stored)
    else:
        all_but_channels = [axis for axis in range(x.dim()) if axis != 1]
        mean = x.mean(all_but_channels, keepdim=True)
        variance = (x - mean).square().mean(all_but_channels, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * weight + bias


def same_conv2d(state: State, name: str, x: Tensor, dilation: int = 1) -> Tensor:
    """Convolve with the layer ``name``, zeros outside, size kept."""
    weight = state[f"{name}.weight"]
    padding = dilation * (weight.shape[-1] // 2)
    bias = state.get(f"{name}.bias")
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation)


def same_conv3d(state: State, name: str, x: Tensor) -> Tensor:
    """Convolve with the layer ``name``, zeros outside, size kept."""
    weight = state[f"{name}.weight"]
    return F.conv3d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def scaled_size(views: Tensor, scale: float) -> tuple[int, int]:
    return round(views.shape[-2] * scale), round(views.shape[-1] * scale)


# vcdnet


def plain_vcdnet(state: State, views: Tensor, scale: float) -> Tensor:
    """Depths (B, D, H, W) of views (B, A, h, w)."""
    x = same_conv2d(state, "f1", views)
    for stage in (1, 3, 5, 7):
        x = same_conv2d(state, f"interp.{stage}", F.pixel_shuffle(x, 2))
    x = F.relu(batch_norm(state, "interp.9", same_conv2d(state, "interp.8", x)))
    x = F.relu(batch_norm(state, "f2.1", same_conv2d(state, "f2.0", x)))

    levels = [x]
    for block in range(5):
        x = levels[-1]
        name = f"down{block}.conv"
        new = F.relu(batch_norm(state, f"{name}.1", same_conv2d(state, f"{name}.0", x)))
        missing = x.new_zeros(x.shape[0], new.shape[1] - x.shape[1], *x.shape[2:])
        levels.append(F.max_pool2d(new + torch.cat([x, missing], 1), 3, stride=2, padding=1))

    x = levels[5]
    for block in (4, 3, 2, 1, 0):
        skip = levels[block]
        name = f"up{block}.conv"
        both = torch.cat([bilinear(x, (skip.shape[-2], skip.shape[-1])), skip], 1)
        x = batch_norm(state, f"{name}.2", F.relu(same_conv2d(state, f"{name}.0", both)))
    return bilinear(torch.tanh(x), scaled_size(views, scale))


# hylfmnet


def plain_hylfmnet(state: State, views: Tensor, scale: float) -> Tensor:
    """Depths (B, D, H, W) of views (B, A, h, w)."""

    def residual2d(name: str, x: Tensor) -> Tensor:
        kept = x
        if f"{name}.projection_layer.weight" in state:
            kept = same_conv2d(state, f"{name}.projection_layer", x)
        new = F.relu(same_conv2d(state, f"{name}.conv.0", x))
        return F.relu(same_conv2d(state, f"{name}.conv.2", new) + kept)

    def residual3d(name: str, x: Tensor) -> Tensor:
        new = F.relu(same_conv3d(state, f"{name}.conv.0", x))
        return F.relu(same_conv3d(state, f"{name}.conv.2", new) + x)

    x = residual2d("res2d.1", residual2d("res2d.0", views))
    x = F.conv_transpose2d(x, state["res2d.2.weight"], state["res2d.2.bias"], stride=2)
    x = residual2d("res2d.3", x)
    x = F.relu(same_conv2d(state, "res2d.4", x))

    volume = x.reshape(x.shape[0], 7, x.shape[1] // 7, *x.shape[2:])
    volume = residual3d("res3d.0", volume)
    volume = F.conv_transpose3d(
        volume,
        state["res3d.1.weight"],
        state["res3d.1.bias"],
        stride=(1, 2, 2),
        padding=(1, 0, 0),
    )
    volume = residual3d("res3d.3", residual3d("res3d.2", volume))
    volume = torch.sigmoid(same_conv3d(state, "res3d.4", volume))
    return bilinear(volume[:, 0], scaled_size(views, scale))


# rlnet


def plain_rlnet(state: State, volume: Tensor) -> Tensor:
    """Return the two estimates (B, 2, D, H, W) from a refocused volume (B, D, H, W).

    Its derivatives are the published surrogates.
    """

    def with_slopes(value: Tensor, a: Tensor, b: Tensor, b_slope: Tensor) -> Tensor:
        """Give the value these derivatives instead of its own: 1 by a, and b_slope by b."""
        return value.detach() + (a - a.detach()) + b_slope.detach() * (b - b.detach())

    def divided(a: Tensor, b: Tensor) -> Tensor:
        ratio = torch.nan_to_num(a / (b + 0.001))
        return with_slopes(ratio, a, b, -ratio.square())

    def product(a: Tensor, b: Tensor) -> Tensor:
        return with_slopes(a * b, a, b, a)

    def conv_norm(number: int, x: Tensor) -> Tensor:
        return batch_norm(state, f"conv{number}.1", same_conv3d(state, f"conv{number}.0", x))

    def conv(number: int, *parts: Tensor) -> Tensor:
        return F.softplus(conv_norm(number, torch.cat(parts, 1)))

    def mean(x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)

    def four(x: Tensor) -> Tensor:
        return x.repeat(1, 4, 1, 1, 1)

    depth, height, width = volume.shape[1:]
    x = F.pad(volume[:, None], (0, width % 2, 0, height % 2, 0, depth % 2))

    p = F.avg_pool3d(x, 2)
    c1 = conv(1, p)
    c2 = conv(2, c1)
    c3 = conv(3, c1, c2) + F.softplus(four(p))
    r = batch_norm(state, "t1.0", divided(p, mean(c3)))
    c4 = conv(4, r)
    c5 = conv(5, c4)
    c6 = conv(6, c5, c4)
    c7 = F.conv_transpose3d(c6, state["conv7.0.weight"], state["conv7.0.bias"], stride=2)
    c7 = F.softplus(batch_norm(state, "conv7.1", c7))
    c8 = conv(8, c7)
    first = product(x, mean(c8))

    e_norm = F.softplus(batch_norm(state, "t2.0", first))
    c9 = conv(9, x)
    c10 = conv(10, c9) + F.softplus(four(x))
    t = batch_norm(state, "t3.0", divided(x, mean(c10)))
    c11 = conv(11, t)
    g = F.softplus(conv_norm(12, c11)) + 1
    f = F.softplus(F.softplus(batch_norm(state, "t4.0", product(e_norm, mean(g)))))
    c13 = F.softplus(same_conv3d(state, "conv13.0", f))
    c14 = F.softplus(same_conv3d(state, "conv14.0", torch.cat([c13, f, e_norm], 1)))
    second = mean(conv(15, c13, c14))
    return torch.cat([first, second], 1)[..., :depth, :height, :width]


# vsnet


def interlaced(views: Tensor, side: int) -> Tensor:
    """Return the light-field image (B, C, h side, w side) of views (B, A, C, h, w), A = side^2."""
    batch, _, channels, height, width = views.shape
    image = views.new_empty(batch, channels, height * side, width * side)
    for u in range(side):
        for v in range(side):
            image[..., u::side, v::side] = views[:, side * u + v]
    return image


def separated(image: Tensor, side: int) -> Tensor:
    """Return the views (B, A, C, h, w) of a light-field image (B, C, h side, w side)."""
    places = [(u, v) for u in range(side) for v in range(side)]
    return torch.stack([image[..., u::side, v::side] for u, v in places], 1)


def plain_vsnet(
    state: State, views: Tensor, side: int, n_groups: int, n_blocks: int, factor: int
) -> Tensor:
    """Return views (B, A, factor h, factor w) of views (B, A, h, w), A = side^2."""

    def lrelu(x: Tensor) -> Tensor:
        return F.leaky_relu(x, 0.1)

    def macro(name: str, image: Tensor) -> Tensor:
        """One value for every whole block of side x side pixels."""
        return F.conv2d(image, state[f"{name}.weight"], stride=side)

    def on_image(name: str, image: Tensor) -> Tensor:
        return same_conv2d(state, name, image, dilation=side)

    def per_view(name: str, many: Tensor) -> Tensor:
        return torch.stack([same_conv2d(state, name, view) for view in many.unbind(1)], 1)

    image = interlaced(views[:, :, None], side)
    am = macro("AM_FE", image)
    lf = on_image("LF_FE", image)
    sa = per_view("SA_FE", views[:, :, None])

    am_outputs, lf_outputs, sa_outputs = [], [], []
    for group in range(n_groups):
        for block in range(n_blocks):
            name = f"cas_interaction.body.{group}.chained_blocks.{block}"
            am_parts = [
                same_conv2d(state, f"{name}.am_Conv", am),
                lrelu(macro(f"{name}.lf_am_conv", lf)),
            ]
            lf_parts = [
                on_image(f"{name}.lf_Conv", lf),
                F.pixel_shuffle(same_conv2d(state, f"{name}.am_lf_conv.0", am), side),
                on_image(f"{name}.lf_Conv", interlaced(sa, side)),
            ]
            sa_parts = [
                per_view(f"{name}.sa_Conv", sa),
                per_view(f"{name}.sa_Conv", separated(lf, side)),
            ]
            am = lrelu(same_conv2d(state, f"{name}.am_Conv2", torch.cat(am_parts, 1))) + am
            lf = lrelu(on_image(f"{name}.lf_Conv2", torch.cat(lf_parts, 1))) + lf
            sa = lrelu(per_view(f"{name}.sa_Conv2", torch.cat(sa_parts, 2))) + sa
        am_outputs.append(am)
        lf_outputs.append(lf)
        sa_outputs.append(sa)

    am = lrelu(same_conv2d(state, "fusion.am_fusion.0", torch.cat(am_outputs, 1)))
    am = F.pixel_shuffle(same_conv2d(state, "fusion.am_fusion.2", am), side)
    sa = interlaced(lrelu(per_view("fusion.sa_fusion.0", torch.cat(sa_outputs, 2))), side)
    fused = lrelu(on_image("fusion.final_fusion.0", torch.cat([am, *lf_outputs, sa], 1)))

    fine = separated(on_image("upsampling.PreConv", fused), side)
    views_out = [
        same_conv2d(state, "upsampling.FinalConv", F.pixel_shuffle(view, factor))
        for view in fine.unbind(1)
    ]
    enlarged = F.interpolate(views, scale_factor=factor, mode="bicubic", align_corners=False)
    return torch.cat(views_out, 1) + enlarged
