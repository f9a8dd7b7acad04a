"""The sections that say how to train: every key, its type, its default, what is allowed."""

from typing import Any, Literal

from pydantic import model_validator

from tenet.config.kinds import (
    LOSSES,
    Count,
    Flag,
    Ignored,
    Loss,
    Positive,
    Real,
    Section,
    Switch,
    Text,
    Weight,
    kind,
)


class SceneLosses(Section):
    """Weights of what a network learns from scenes by, see `tenet.training.losses.scene_losses`.

    Attributes
    ----------
    bce, dice
        Of the structure.
    brightness
        Squared error per voxel of objects.
    light
        Of the image that structure and brightness explain.
    """

    bce: Weight = 1.0
    dice: Weight = 0.05
    brightness: Weight = 0.5
    light: Weight = 0.0


RECIPES = ("published", "fast")
Recipe: Any = kind(Literal[RECIPES], " or ".join(RECIPES))


class _Loop(Section):
    recipe: Recipe = RECIPES[0]
    losses: SceneLosses = SceneLosses()
    batch_size: Count = 1
    n_epochs: Count
    lr: Positive
    path: Text = "model"
    savefig_path: Text = "train"
    partial: Ignored = None
    es_patience: Count = 10
    is_vibrate: Flag = False


class PretrainLoop(_Loop):
    """Pre-training on labels, or on random scenes.

    Attributes
    ----------
    recipe
        ``published``; or ``fast``, in minutes, from the section ``scenes``: see
        `tenet.training.scene_pretraining`.
    losses
        Of the fast recipe.
    batch_size, n_epochs, lr
        Crops in a step, epochs, learning rate.
    loss_fnx, weight_x
        Loss of the structure against its label, and its weight.
    loss_fnz
        Read but not used: the brightness has a loss of its own, of ``weight_z``.
    path, savefig_path
        Folders for the checkpoints and for the run.
    es_patience
        Epochs without a better moving mean of the validation loss before the end.
    is_vibrate
        Whether slices are displaced.
    without_noise
        Whether the image has none.
    """

    loss_fnx: Loss = LOSSES[0]
    loss_fnz: Loss = LOSSES[0]
    ewc: Switch = False
    weight_x: Weight = 1.0
    weight_z: Weight = 1.0
    without_noise: Flag = False

    @model_validator(mode="after")
    def _check(self) -> "PretrainLoop":
        if self.ewc:
            raise ValueError("ewc is true; allowed: false or null, there is nothing to hold on to")
        return self


class MRFWeights(Section):
    """Energies of a voxel beside its neighbours, see `tenet.training.losses.mrf_loss`."""

    l_00: Real = 0.0
    l_01: Real = 0.0
    l_10: Real = 0.0
    l_11: Real = 0.0


class TrainLoop(_Loop):
    """Fine-tuning on recordings.

    Attributes
    ----------
    recipe
        ``published``; or ``fast``, beside scenes as in pre-training: see
        `tenet.training.scene_finetuning`.
    losses, recordings_weight
        Of the fast recipe: what it learns from scenes by, and the weight of the recordings. There
        is more Dice in it than in pre-training: under noise that is known, the cross-entropy
        leaves out what is uncertain.
    loss_fn, params
        Read but not used.
    ewc, ewc_weight
        Whether the weights are held near the pre-trained ones, and how firmly.
    reconstruct
        Must be true: the reconstruction is what it learns from.
    is_instantblur
        Whether images are made of labels, as with ``--simulation``.
    adjust_luminance
        Whether the reconstruction's brightness is fitted before it is compared.
    zloss_weight, qloss_weight, ploss_weight
        Of the luminance, the quantisation and the PSF.
    mrfloss_order, mrfloss_dilation, mrfloss_weights
        Of the Markov random field.
    """

    loss_fn: Loss = "nn.MSELoss()"
    params: Ignored = None
    ewc: Switch = False
    reconstruct: Flag = True
    is_instantblur: Flag = False
    adjust_luminance: Flag = False
    losses: SceneLosses = SceneLosses(dice=0.5, light=0.3)
    recordings_weight: Weight = 0.02
    zloss_weight: Weight = 1.0
    ewc_weight: Weight = 1.0
    qloss_weight: Weight = 1.0
    ploss_weight: Weight = 1.0
    mrfloss_order: Count = 1
    mrfloss_dilation: Count = 1
    mrfloss_weights: MRFWeights = MRFWeights()

    @model_validator(mode="after")
    def _check(self) -> "TrainLoop":
        if not self.reconstruct:
            raise ValueError(
                "reconstruct is false; allowed: true, fine-tuning learns from the reconstruction"
            )
        return self
