"""What the alignment network learns from: simulated stacks, shaken by a known vibration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from optics import add_two_photon_noise
from scopekit.images.files import VoxelSize
from scopekit.training.recipe import Validation
from tenet.alignment.modes import JUDGED, AlignmentLoss
from tenet.alignment.network import DeepAlignNet
from tenet.alignment.shifts import alignment_content, remove_trend
from tenet.alignment.vibration import Strength, draw_shifts, shift_slices

Judge = Callable[[Tensor], Sequence[Tensor]]

_LEAST_STRENGTH = 0.3
_SHOT_NOISE, _DARK_NOISE = (1e-3, 0.1), (1e-3, 0.05)
_EARLIER_STEP = 0.6  # weight of a Gauss-Newton step's shifts, for each step after it
_SMALL_SHIFT = 0.05  # pixels; below, the loss of a shift is quadratic
_DRAWS = 100


@dataclass(frozen=True)
class AlignmentSettings:
    """How the training stacks are made, and by which losses the network learns.

    Attributes
    ----------
    strength
        Of the vibration; samples have 0.3 to 1 times that.
    crop
        Side of the stacks, pixels; at least 64, for all of the network to be used.
    margin
        Largest shift, pixels: fields are that much larger on every side, so that no border shows.
    loss_mode
        One or several.
    stacks_an_epoch
        Samples an epoch.
    """

    strength: Strength
    crop: int = 96
    margin: int = 12
    loss_mode: tuple[AlignmentLoss, ...] = (AlignmentLoss.shift,)
    stacks_an_epoch: int = 200


@dataclass(frozen=True)
class ShakenStack:
    """A sample.

    Attributes
    ----------
    source
        Where its field comes from.
    stack
        (1, Z, crop, crop), vibrated and noisy, 0 to 1.
    still
        The same before vibration and noise.
    shifts
        (Z, 2), pixels.
    """

    source: str
    stack: Tensor
    still: Tensor
    shifts: Tensor


class AlignmentTraining:
    """The recipe for the training loop.

    Parameters
    ----------
    model
        The network to train.
    fields, validation
        Noiseless images (Z, Y, X) of structure, as the microscope sees it, 0 to 1; of one shape,
        with sides of at least ``crop + 2 margin``.
    settings
        See there.
    judges
        For ``perceptual`` and ``segmentation``: turn stacks (B, 1, Z, Y, X) into tensors to
        compare, such as JNet's features, or its structure.
    voxel_um
        (z, y, x) step of the fields, for pictures.
    """

    best_by = "residual"

    def __init__(
        self,
        model: DeepAlignNet,
        fields: Sequence[NDArray[np.float32]],
        validation: Sequence[NDArray[np.float32]],
        settings: AlignmentSettings,
        *,
        judges: dict[AlignmentLoss, Judge] | None = None,
        voxel_um: VoxelSize = (1.0, 1.0, 1.0),
    ) -> None:
        self.model, self.settings = model, settings
        self.n_samples = settings.stacks_an_epoch
        self.memory_settings = f"crop (now {settings.crop}) or batch_size"
        self._fields, self._validation = fields, validation
        self._judges = judges or {}
        self._voxel_um = voxel_um
        needed = [mode.value for mode in JUDGED if mode in settings.loss_mode]
        missing = [mode for mode in needed if mode not in self._judges]
        if missing:
            raise ValueError(f"loss_mode {missing} needs a judge of that name")

    def sample(self, item: int, rng: np.random.Generator) -> ShakenStack:
        """Draw a field at random, turn and magnify it, shake it, cut a crop out, add noise."""
        index = int(rng.integers(len(self._fields)))
        return self._shake(self._fields[index], index, rng)

    def _shake(
        self, field: NDArray[np.float32], index: int, rng: np.random.Generator
    ) -> ShakenStack:
        settings = self.settings
        side = settings.crop + 2 * settings.margin
        whole = _turned(torch.from_numpy(field.astype(np.float32)), rng)
        # Demagnified now and then: finer details a pixel.
        smallest = side / min(whole.shape[1:])
        share = float(np.exp(rng.uniform(np.log(smallest), 0)))
        size = [max(side, round(n * share)) for n in whole.shape[1:]]
        whole = F.interpolate(whole[None], size=size, mode="bilinear", antialias=True)[0]
        y, x = (int(rng.integers(n - side + 1)) for n in size)
        window = whole[None, None, :, y : y + side, x : x + side]
        shifts = torch.from_numpy(self._draw(len(field), rng))
        inner = slice(settings.margin, settings.margin + settings.crop)
        moved = shift_slices(window, shifts[None])[0, ..., inner, inner]
        a, sigma = (
            float(np.exp(rng.uniform(*np.log(limits)))) for limits in (_SHOT_NOISE, _DARK_NOISE)
        )
        noise = torch.Generator().manual_seed(int(rng.integers(2**62)))
        noisy = add_two_photon_noise(moved, a, sigma, noise).clamp(0, 1)
        return ShakenStack(f"field {index}", noisy, window[0, ..., inner, inner], shifts)

    def _draw(self, slices: int, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw shifts within the margin."""
        full, share = self.settings.strength, rng.uniform(_LEAST_STRENGTH, 1)
        strength = Strength(
            share * full.b_sigma,
            share * full.amp_alpha,
            share * full.omega_alpha,
            full.noise_inv_var_alpha / share,
        )
        for _ in range(_DRAWS):
            shifts = draw_shifts(strength, slices, rng)
            if np.abs(shifts).max() < self.settings.margin:
                break
        return np.clip(shifts, -self.settings.margin, self.settings.margin)

    def losses(
        self, network: Callable[..., Any], samples: Sequence[ShakenStack]
    ) -> dict[str, Tensor]:
        """Return the terms that ``loss_mode`` names."""
        device = next(self.model.parameters()).device
        stack, still, shifts = (
            torch.stack([getattr(s, name) for s in samples]).to(device)
            for name in ("stack", "still", "shifts")
        )
        found = network(stack)
        terms: dict[str, Tensor] = {}
        modes = self.settings.loss_mode
        if AlignmentLoss.shift in modes:
            terms["shift"] = shift_loss(found, shifts)
        if len(modes) > len(terms):
            aligned = shift_slices(stack, -found[-1])
            inner = slice(self.settings.margin, -self.settings.margin)
            aligned, still = aligned[..., inner, inner], still[..., inner, inner]
            if AlignmentLoss.pixel in modes:
                terms["pixel"] = F.mse_loss(aligned, still)
            for mode in JUDGED:
                if mode in modes:
                    terms[mode.value] = _difference(self._judges[mode], aligned, still)
        return terms

    def validate(self) -> Validation:
        """Shake every validation field in its own way, and align it.

        ``residual`` is the root mean square of what is left of the shifts, pixels, their mean and
        linear trend removed, ``residual_with_drift`` with the trend.
        """
        device = next(self.model.parameters()).device
        squares: dict[str, list[float]] = {"residual": [], "residual_with_drift": []}
        drawn: dict[str, NDArray[np.float32]] = {}
        for index, field in enumerate(self._validation):
            shaken = self._shake(field, index, np.random.default_rng(index))
            found = self.model(shaken.stack[None].to(device))[-1].cpu()
            left = found[0] - shaken.shifts
            squares["residual"].append(float(remove_trend(left).square().mean()))
            squares["residual_with_drift"].append(float(left.square().mean()))
            if not drawn:
                aligned = shift_slices(shaken.stack[None], -found)[0, 0]
                volumes = {"shaken": shaken.stack[0], "aligned": aligned, "still": shaken.still[0]}
                drawn = {name: volume.numpy() for name, volume in volumes.items()}
        scores = {name: float(np.sqrt(np.mean(values))) for name, values in squares.items()}
        return Validation(scores, drawn, self._voxel_um, lower_is_better=True)

    def checkpoint(self) -> dict[str, Any]:
        """Return the network as `tenet.alignment.shifts.load_alignment` reads it."""
        return alignment_content(self.model)

    def restore(self, content: Mapping[str, Any]) -> None:
        """Go on with the model of a checkpoint."""
        self.model.load_state_dict(content["state"])


def shift_loss(found: Tensor, shifts: Tensor) -> Tensor:
    """Return how far the shifts of each step are from the true ones, pixels.

    Parameters
    ----------
    found
        (steps, B, Z, 2); later ones count more.
    shifts
        (B, Z, 2), the truth. The linear trend counts a tenth: little of it can be known.
    """
    left = found - shifts
    left = left - left.mean(dim=2, keepdim=True)
    each = _distance(remove_trend(left)) + 0.1 * _distance(left)
    weights = _EARLIER_STEP ** torch.arange(len(found) - 1, -1, -1).to(each)
    return (weights * each).sum()


def _distance(left: Tensor) -> Tensor:
    return ((left.square() + _SMALL_SHIFT**2).sqrt() - _SMALL_SHIFT).mean(dim=(1, 2, 3))


def _difference(judge: Judge, aligned: Tensor, still: Tensor) -> Tensor:
    with torch.no_grad():
        wanted = judge(still)
    pairs = zip(judge(aligned), wanted, strict=True)
    return torch.stack([F.mse_loss(a, b) for a, b in pairs]).mean()


def _turned(field: Tensor, rng: np.random.Generator) -> Tensor:
    """Return the field (Z, Y, X) in one of its 16 orientations that keep the optical axis."""
    axes = [axis for axis in range(3) if rng.random() < 0.5]
    field = field.flip(axes)
    return field.transpose(1, 2) if rng.random() < 0.5 else field
