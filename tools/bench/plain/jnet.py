"""JNet's whole forward pass as plain functions of a state under the published names.

Written from the description of the method alone, for whoever wants to check an implementation:
nothing fused, nothing cached, and nothing imported from this project.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import j0, j1
from torch import Tensor

State = Mapping[str, Tensor]


def plain_jnet(
    state: State, params: Mapping[str, Any], stack: Tensor, *, training: bool = False
) -> dict[str, Tensor | None]:
    """Return what JNet makes of a stack (B, 1, Z, Y, X) in [0, 1], without dropout.

    ``params`` is the section of that name in a configuration file. ``training`` takes the batch's
    statistics and updates the running ones in ``state``, in place. The constants of the microscope
    (coordinates of the neural PSF, analytic section) are single precision numbers in any case.
    """
    scale = params["scale"] if params["superres"] else 1
    x, z = plain_unet(state, stack, scale, training)
    quantised_loss = psf_loss = None
    if params["apply_vq"]:
        binary = (x >= params["threshold"]).to(x.dtype)
        quantised_loss = (binary - x).square().mean()
        if params["use_x_quantized"]:
            x = binary + (x - x.detach())
    reconstruction = x
    if params["reconstruct"]:
        section = neural_section(state, params, training)
        analytic = torch.from_numpy(analytic_section(params)).float().to(section)
        psf_loss = (section - analytic).square().mean()
        reconstruction = blur(x * z, section, params, scale).clamp(0, 1)
    return {
        "enhanced_image": x,
        "estim_luminance": z,
        "reconstruction": reconstruction,
        "poisson_weight": torch.sigmoid(state["a"]),
        "gaussian_sigma": torch.sigmoid(state["sigma"]),
        "quantized_loss": quantised_loss,
        "psf_loss": psf_loss,
    }


def plain_unet(state: State, stack: Tensor, scale: int, training: bool) -> tuple[Tensor, Tensor]:
    """Structure and brightness, (B, 1, scale * Z, Y, X) each."""
    fine = F.interpolate(stack, scale_factor=(scale, 1, 1), mode="trilinear", align_corners=False)
    multiple = 2 ** max(name.split(".").count("mid") for name in state)
    z, y, x = fine.shape[2:]
    margin = (0, -x % multiple, 0, -y % multiple, 0, -z % multiple)
    features = convolve(state, "prev0.conv", F.pad(fine, margin, mode="replicate"))
    features = residual_blocks(state, "prev", features, training)
    if "mid.conv.weight" in state:
        features = recursive_layer(state, "mid", features, training)
    tails = []
    for tail in ("postx", "postz"):
        blocks = residual_blocks(state, tail, features, training)
        last = max(int(name.split(".")[1]) for name in state if name.startswith(tail))
        logits = convolve(state, f"{tail}.{last}.conv", blocks)
        tails.append(torch.sigmoid(logits)[:, :, :z, :y, :x])
    return tails[0], tails[1]


def recursive_layer(state: State, name: str, outer: Tensor, training: bool) -> Tensor:
    x = F.relu(convolve(state, f"{name}.pool.conv", F.max_pool3d(outer, 2)))
    x = convolve(state, f"{name}.conv", x)
    x = residual_blocks(state, f"{name}.prev", x, training)
    if f"{name}.mid.conv.weight" in state:
        x = recursive_layer(state, f"{name}.mid", x, training)
    x = residual_blocks(state, f"{name}.post", x, training)
    x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    return outer + F.relu(convolve(state, f"{name}.unpool.conv", x))


def residual_blocks(state: State, name: str, x: Tensor, training: bool) -> Tensor:
    index = 0
    while (block := f"{name}.{index}") + ".bn1.weight" in state:
        inner = F.relu_(normalise(state, f"{block}.bn1", x, training))
        inner = convolve(state, f"{block}.conv1", inner)
        inner = F.relu_(normalise(state, f"{block}.bn2", inner, training))
        x = x + convolve(state, f"{block}.conv2", inner)
        index += 1
    return x


def convolve(state: State, name: str, x: Tensor) -> Tensor:
    weight = state[f"{name}.weight"]
    margin = [weight.shape[-1] // 2] * 6
    return F.conv3d(F.pad(x, margin, mode="replicate"), weight, state[f"{name}.bias"])


def normalise(state: State, name: str, x: Tensor, training: bool) -> Tensor:
    if training:
        state[f"{name}.num_batches_tracked"].add_(1)
    return F.batch_norm(
        x,
        state[f"{name}.running_mean"],
        state[f"{name}.running_var"],
        state[f"{name}.weight"],
        state[f"{name}.bias"],
        training,
        # Of the U-Net, whose statistics differ much from crop to crop; else PyTorch's own.
        momentum=0.1 if "neuripsf" in name else 0.01,
    )


def section_shape(params: Mapping[str, Any]) -> tuple[int, int]:
    """Rows (z) and columns (radius) of the PSF section."""
    x0, y0 = (params["size_x"] - 1) / 2, (params["size_y"] - 1) / 2
    columns = round(math.hypot(params["size_x"] - x0, params["size_y"] - y0))
    return params["size_z"] // params["scale"], columns


def neural_section(state: State, params: Mapping[str, Any], training: bool) -> Tensor:
    prefix = "image.blur.neuripsf.layers"
    rows, columns = section_shape(params)
    z, r = torch.linspace(-1, 1, rows).abs(), torch.linspace(-1, 1, columns)
    points = torch.stack(torch.meshgrid(z, r, indexing="ij"), dim=-1).reshape(-1, 2)
    points = points.to(state["a"])
    x = normalise(state, f"{prefix}.0", points, training)
    x = torch.sigmoid(F.linear(x, state[f"{prefix}.1.weight"], state[f"{prefix}.1.bias"]))
    x = normalise(state, f"{prefix}.3", x, training)
    x = torch.sigmoid(F.linear(x, state[f"{prefix}.4.weight"], state[f"{prefix}.4.bias"]))
    return x.reshape(rows, columns)


def analytic_section(params: Mapping[str, Any]) -> NDArray[np.float64]:
    if params["blur_mode"] == "gibsonlanni":
        return gibson_lanni_section(params)
    rows, columns = section_shape(params)
    z, k = np.arange(rows)[:, None] - (rows - 1) / 2, np.arange(columns)
    section: NDArray[np.float64] = np.exp(
        -((k / params["bet_xy"]) ** 2 + (z / params["bet_z"]) ** 2)
    )
    return section


def gibson_lanni_section(params: Mapping[str, Any]) -> NDArray[np.float64]:
    """Li, Xue and Blu 2017: the pupil as a series of Bessel functions."""
    rows, columns = section_shape(params)
    na, wavelength = params["NA"], params["wavelength"]
    scaling = na * (3 * np.arange(1, 101) - 2) * 0.436 / wavelength
    a = min(na, *(params[key] for key in ("ns", "ni", "ni0", "ng", "ng0"))) / na
    rho = np.linspace(0, a, 1000)
    r = params["res_lateral"] * np.arange(columns)
    z = params["res_axial"] * np.arange(-rows / 2, rows / 2) + params["res_axial"] / 2

    def thickness(index: str) -> NDArray[np.float64]:
        along: NDArray[np.float64] = np.sqrt(params[index] ** 2 - (na * rho) ** 2)
        return along

    path = (
        params["pZ"] * thickness("ns")
        + (z[:, None] + params["ti0"]) * thickness("ni")
        - params["ti0"] * thickness("ni0")
        + params["tg"] * thickness("ng")
        - params["tg0"] * thickness("ng0")
    )
    pupil = np.exp(2j * np.pi * path / wavelength)
    coefficients = np.linalg.lstsq(j0(scaling * rho[:, None]), pupil.T, rcond=None)[0]
    b = 2 * np.pi * r[:, None] * na / wavelength
    numerator = scaling * j1(scaling * a) * j0(b * a) - b * j0(scaling * a) * j1(b * a)
    psf: NDArray[np.float64] = np.abs(a * numerator / (scaling**2 - b**2) @ coefficients).T ** 2
    psf /= psf.max()
    return psf


def blur(sharp: Tensor, section: Tensor, params: Mapping[str, Any], stride: int) -> Tensor:
    """Correlate with the kernel of a section, at every ``stride``-th plane."""
    size_z, size_y, size_x = (params[f"size_{axis}"] for axis in "zyx")
    ratio = params["res_axial"] // params["res_lateral"]
    if not params["superres"]:
        # Planes as thick as the recorded ones, as are the section's rows.
        size_z, ratio = section.shape[0], 1
    y, x = torch.arange(size_y) - (size_y - 1) / 2, torch.arange(size_x) - (size_x - 1) / 2
    radius = torch.hypot(y[:, None], x).round().long()
    row = torch.arange(size_z) * section.shape[0] // size_z
    kernel = section[row[:, None, None], radius]
    kernel = kernel / kernel.sum()
    before = int((size_z - ratio + 1) // 2), size_y // 2, size_x // 2
    # Zeros behind as far as the image needs: as many planes as fit, all rows and columns.
    depth, planes = sharp.shape[2], sharp.shape[2] // stride
    behind = (
        (planes - 1) * stride + size_z - before[0] - depth,
        size_y - 1 - before[1],
        size_x - 1 - before[2],
    )
    margin = [part for axis in (2, 1, 0) for part in (before[axis], behind[axis])]
    return F.conv3d(F.pad(sharp, margin), kernel[None, None], stride=(stride, 1, 1))
