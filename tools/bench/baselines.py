"""HyLFM-Net and VsNet against plain float32 forms, the ones that the tests compare them with."""

from collections.abc import Iterable

import torch
from torch import Tensor

import serenet
from bench.plain.baselines import plain_hylfmnet, plain_vsnet
from bench.timing import Bench, Result, Work, counted_flops

SCALE = 13 / 3
# The published names' parts, of which the plain forms are made.
HYLFM_PARTS = (("flat.", "res2d."), ("deep.", "res3d."), (".projection.", ".projection_layer."))
VS_PARTS = (
    ("first_angular.", "AM_FE."),
    ("first_field.", "LF_FE."),
    ("first_spatial.", "SA_FE."),
    ("groups.", "cas_interaction.body."),
    (".spatial_joined.", ".sa_Conv2."),
    (".spatial.", ".sa_Conv."),
    (".angular_joined.", ".am_Conv2."),
    (".angular.", ".am_Conv."),
    (".field_joined.", ".lf_Conv2."),
    (".field.", ".lf_Conv."),
    (".field_to_angular.", ".lf_am_conv."),
    (".angular_to_field.conv.", ".am_lf_conv.0."),
    ("joined_spatial.", "fusion.sa_fusion.0."),
    ("joined_angular.", "fusion.am_fusion.0."),
    ("angular_to_field.conv.", "fusion.am_fusion.2."),
    ("joined.", "fusion.final_fusion.0."),
    ("finer.", "upsampling.PreConv."),
    ("last.", "upsampling.FinalConv."),
)


def published_state(model: torch.nn.Module, parts: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
    state = {}
    for name, tensor in model.state_dict().items():
        for own, published in parts:
            name = name.replace(own, published)
        if name.startswith("cas_interaction"):
            _, _, group, block, rest = name.split(".", 4)
            name = f"cas_interaction.body.{group}.chained_blocks.{block}.{rest}"
        state[name] = tensor.contiguous()
    return state


@torch.no_grad()
def bench_hylfmnet(bench: Bench) -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    model = serenet.build_model("hylfmnet").eval()
    side = 8 if bench.tiny else 48
    views = torch.rand((1, 169, side, side), generator=generator)
    work = Work(counted_flops(model, views, SCALE), 4 * views.numel(), bench.float32)
    model.to(bench.device)
    plain = published_state(model, HYLFM_PARTS)
    model.lay_out()
    views = views.to(bench.device)
    return [
        bench.compare(
            f"forward of hylfmnet, 169 x {side} x {side} to 101 planes",
            lambda: model(views, SCALE)[:, 0],
            "contiguous float32",
            lambda: plain_hylfmnet(plain, views, SCALE),
            work,
        )
    ]


@torch.no_grad()
def bench_vsnet(bench: Bench) -> list[Result]:
    generator = torch.Generator().manual_seed(0)
    scan = serenet.build_model("vsnet").eval()
    side = 4 if bench.tiny else 12
    light_field = torch.rand((1, 169, side, side), generator=generator)
    work = Work(counted_flops(scan, light_field), 4 * 10 * light_field.numel(), bench.float32)
    scan.to(bench.device)
    plain = published_state(scan, VS_PARTS)
    scan.lay_out()
    light_field = light_field.to(bench.device)
    return [
        bench.compare(
            f"forward of vsnet, 169 x {side} x {side}",
            lambda: scan(light_field)[:, 0],
            "interlaced image, dilated convolutions, contiguous float32",
            lambda: plain_vsnet(plain, light_field, 13, 4, 4, 3),
            work,
            repeats=2,
        )
    ]
