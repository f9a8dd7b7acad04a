"""Which networks there are: how each is built from its published arguments, and its names.

The published checkpoints' parameter names are mapped to this project's own.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scopekit.errors import UserError
from serenet.networks.base import Network
from serenet.networks.hylfmnet import HyLFMNet
from serenet.networks.rlnet import RLNet
from serenet.networks.serenet import FSeReNet, SeReNet
from serenet.networks.twnet import build_twnet
from serenet.networks.vcdnet import VCDNet
from serenet.networks.vsnet import VsNet

_MOST_VIEWS = 99**2
_MOST_DEPTHS = 9999

# A pattern, and what it becomes: a template, or a function of its only group, a number.
Names = tuple[tuple[str, str | Callable[[int], str]], ...]

_FAMILY_NAMES: Names = (
    (r"fusion\.([0246])\.", lambda i: f"coarse.{i}."),
    (r"fusion\.(9|11)\.", lambda i: f"middle.{i - 9}."),
    (r"fusion\.(14|16|18)\.", lambda i: f"fine.{i - 14}."),
)
_AXIAL_NAMES: Names = (
    *_FAMILY_NAMES[:2],
    (r"decoder\.down_layers\.(\d)\.conv\.0\.", r"fine.0.down.\1.0."),
    (r"decoder\.up_layers\.(\d)\.conv\.0\.", r"fine.0.up.\1.0."),
    (r"final_conv\.0\.", "fine.1.0."),
)
_VCD_NAMES: Names = (
    (r"f1\.", "first."),
    (r"interp\.([1357])\.", lambda i: f"interpolation.{i // 2}."),
    (r"interp\.([89])\.", lambda i: f"joined.{i - 8}."),
    (r"f2\.([01])\.", r"stem.\1."),
    (r"(down|up)(\d)\.conv\.0\.", r"\1.\2.conv."),
    (r"(down)(\d)\.conv\.1\.", r"\1.\2.norm."),
    (r"(up)(\d)\.conv\.2\.", r"\1.\2.norm."),
)
_HYLFM_NAMES: Names = (
    (r"res2d\.(\d)\.projection_layer\.", r"flat.\1.projection."),
    (r"res2d\.", "flat."),
    (r"res3d\.", "deep."),
)
_SAME_NAMES: Names = (("", ""),)
_RL_NAMES: Names = (
    (r"t1\.0\.", "coarse_ratio."),
    (r"t2\.0\.", "estimate."),
    (r"t3\.0\.", "fine_ratio."),
    (r"t4\.0\.", "update."),
    *_SAME_NAMES,
)
_BLOCK = r"cas_interaction\.body\.(\d+)\.chained_blocks\.(\d+)\."
_VS_NAMES: Names = (
    (r"AM_FE\.", "first_angular."),
    (r"LF_FE\.", "first_field."),
    (r"SA_FE\.", "first_spatial."),
    (_BLOCK + r"sa_Conv\.", r"groups.\1.\2.spatial."),
    (_BLOCK + r"sa_Conv2\.", r"groups.\1.\2.spatial_joined."),
    (_BLOCK + r"am_Conv\.", r"groups.\1.\2.angular."),
    (_BLOCK + r"am_Conv2\.", r"groups.\1.\2.angular_joined."),
    (_BLOCK + r"lf_Conv\.", r"groups.\1.\2.field."),
    (_BLOCK + r"lf_Conv2\.", r"groups.\1.\2.field_joined."),
    (_BLOCK + r"lf_am_conv\.", r"groups.\1.\2.field_to_angular."),
    (_BLOCK + r"am_lf_conv\.0\.", r"groups.\1.\2.angular_to_field.conv."),
    (r"fusion\.sa_fusion\.0\.", "joined_spatial."),
    (r"fusion\.am_fusion\.0\.", "joined_angular."),
    (r"fusion\.am_fusion\.2\.", "angular_to_field.conv."),
    (r"fusion\.final_fusion\.0\.", "joined."),
    (r"upsampling\.PreConv\.", "finer."),
    (r"upsampling\.FinalConv\.", "last."),
)


@dataclass(frozen=True)
class Entry:
    """How a published model is built, and what its parameters are called here."""

    build: Callable[..., Network]
    names: Names

    def own_name(self, published: str, model_name: str) -> str:
        """Return this project's name of a published parameter."""
        for pattern, own in self.names:
            match = re.match(pattern, published)
            if match:
                start = match.expand(own) if isinstance(own, str) else own(int(match[1]))
                return start + published[match.end() :]
        raise UserError(f"parameter '{published}' does not belong to a {model_name}")


def _check_count(name: str, value: Any, largest: int) -> None:
    if type(value) is not int or not 1 <= value <= largest:
        raise UserError(f"{name} is {value!r}; expected 1 to {largest}")


# The functions' arguments have the published names.
def _family(kind: type[SeReNet], second_up: float) -> Callable[..., SeReNet]:
    def build(
        inChannels: int = 49,
        negative_slope: float = 0.1,
        usingbias: bool = True,
        reset_param: bool = False,
        outChannels: int = 101,
    ) -> SeReNet:
        # reset_param and outChannels change nothing here.
        _check_count("inChannels", inChannels, _MOST_VIEWS)
        if type(negative_slope) not in (int, float) or not math.isfinite(negative_slope):
            raise UserError(f"negative_slope is {negative_slope!r}; expected a number")
        if type(usingbias) is not bool:
            raise UserError(f"usingbias is {usingbias!r}; expected true or false")
        return kind(inChannels, second_up, negative_slope, usingbias)

    return build


def _vcdnet(inChannels: int = 169, outChannels: int = 101, channels_interp: int = 128) -> VCDNet:
    _check_count("inChannels", inChannels, _MOST_VIEWS)
    _check_count("outChannels", outChannels, _MOST_DEPTHS)
    _check_count("channels_interp", channels_interp, 4096)
    if channels_interp % 32:
        raise UserError(f"channels_interp is {channels_interp}; expected a multiple of 32")
    return VCDNet(inChannels, outChannels, channels_interp)


def _hylfmnet(inChannels: int = 169, outChannels: int = 101) -> HyLFMNet:
    _check_count("inChannels", inChannels, _MOST_VIEWS)
    _check_count("outChannels", outChannels, _MOST_DEPTHS)
    return HyLFMNet(inChannels, outChannels)


def _rlnet(kernel_size: int = 3) -> RLNet:
    if type(kernel_size) is not int or kernel_size != 3:
        raise UserError(f"kernel_size is {kernel_size!r}; expected 3")
    return RLNet()


def _vsnet(
    angRes: int = 13, K: int = 4, n_block: int = 4, channels: int = 64, upscale_factor: int = 3
) -> VsNet:
    _check_count("angRes", angRes, 99)
    _check_count("K", K, 99)
    _check_count("n_block", n_block, 99)
    _check_count("channels", channels, 4096)
    _check_count("upscale_factor", upscale_factor, 99)
    return VsNet(angRes, K, n_block, channels, upscale_factor)


def vsnet_args(state_dict: Mapping[str, Tensor]) -> dict[str, int]:
    """Return a published vsnet's constructor arguments, told by its parameters alone.

    Parameters
    ----------
    state_dict
        Published names to tensors, without a ``module.`` prefix.

    Raises
    ------
    UserError
        If they are not a vsnet's.
    """
    blocks = [m for m in (re.match(_BLOCK, name) for name in state_dict) if m]
    try:
        channels, _, side, _ = state_dict["AM_FE.weight"].shape
        finer = state_dict["upsampling.PreConv.weight"].shape[0]
        return {
            "angRes": side,
            "K": 1 + max(int(m[1]) for m in blocks),
            "n_block": 1 + max(int(m[2]) for m in blocks),
            "channels": channels,
            "upscale_factor": math.isqrt(finer // channels),
        }
    except (KeyError, ValueError, AttributeError, ZeroDivisionError) as failure:
        raise UserError(
            "it tells neither the network's name nor its arguments, and its parameters are not "
            "those of a vsnet"
        ) from failure


MODELS = {
    "serenet": Entry(_family(SeReNet, 2.0), _FAMILY_NAMES),
    "serenetup5": Entry(_family(SeReNet, 2.5), _FAMILY_NAMES),
    "fserenet": Entry(_family(FSeReNet, 2.0), _AXIAL_NAMES),
    "vcdnet": Entry(_vcdnet, _VCD_NAMES),
    "hylfmnet": Entry(_hylfmnet, _HYLFM_NAMES),
    "rlnet": Entry(_rlnet, _RL_NAMES),
    "vsnet": Entry(_vsnet, _VS_NAMES),
    "twnet": Entry(build_twnet, _SAME_NAMES),
}
