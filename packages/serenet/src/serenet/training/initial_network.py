"""The network that a run trains: new, or continued from a checkpoint."""

from typing import Any, TypeVar

import torch

from optics import LightFieldMicroscope
from scopekit.errors import UserError
from serenet.networks.base import Network
from serenet.networks.checkpoints import build_model, load_checkpoint, network_for_scale
from serenet.networks.serenet import SeReNet
from serenet.training.settings import TrainingSettings
from serenet.training.start import draw_weights, to_counts

AnyNetwork = TypeVar("AnyNetwork", bound=Network)


def published_network(
    kind: type[AnyNetwork], settings: TrainingSettings, **arguments: Any
) -> AnyNetwork:
    """Return the network of the run's method; it begins as ``start_from`` if that is given.

    Parameters
    ----------
    kind
        Its class.
    settings
        The run's.
    **arguments
        Published constructor arguments, where the run's ``network`` does not give them.

    Raises
    ------
    UserError
        If an argument is wrong, or the checkpoint is of another network.
    """
    torch.manual_seed(settings.seed)
    start = load_checkpoint(settings.start_from) if settings.start_from else None
    try:
        model = build_model(settings.method, **arguments | settings.network)
    except UserError as failure:
        raise UserError(f"network: {failure}") from failure
    assert isinstance(model, kind)
    if start is not None:
        if (start.published_name, start.published_args) != (settings.method, model.published_args):
            raise UserError(
                f"start_from: {settings.start_from} is a {start.published_name} with "
                f"{start.published_args}, not a {settings.method} with {model.published_args}: "
                "give such a one, or leave start_from out"
            )
        model.load_state_dict(start.state_dict())
    return model


def family_network(settings: TrainingSettings, microscope: LightFieldMicroscope) -> SeReNet:
    """Return the serenet of a microscope; it begins as ``start_from`` if that is given.

    Raises
    ------
    UserError
        If the checkpoint is not one that the method can begin with.
    """
    torch.manual_seed(settings.seed)
    start = load_checkpoint(settings.start_from) if settings.start_from else None
    n_views = len(microscope.views)
    name = "fserenet"
    if settings.method != "fserenet":
        name = network_for_scale(microscope.lateral_scale)
    model = build_model(name, inChannels=n_views)
    assert isinstance(model, SeReNet)
    model.method = settings.method
    if settings.recipe == "fast":
        draw_weights(model, torch.Generator().manual_seed(settings.seed))
        to_counts(model)
    if start is None:
        return model
    if not isinstance(start, SeReNet):
        raise UserError(
            f"start_from: {settings.start_from} is a {start.published_name}: give a serenet"
        )
    if start.n_views != n_views:
        raise UserError(
            f"start_from: {settings.start_from} takes {start.n_views} views, the optics have "
            f"{n_views}: give a network of this microscope"
        )
    if settings.method == "fserenet":
        if start.second_up != model.second_up:
            raise UserError(
                f"start_from: {settings.start_from} enlarges {start.enlargement} times, fserenet "
                f"{model.enlargement} times: give a serenet of 13 x 13 views"
            )
    elif start.published_name != model.published_name:
        raise UserError(
            f"start_from: {settings.start_from} is a {start.published_name}; "
            f"{settings.method} of these optics is a {model.published_name}: give such a one"
        )
    if type(start) is type(model):
        model.load_state_dict(start.state_dict())
    else:
        model.coarse.load_state_dict(start.coarse.state_dict())
        model.middle.load_state_dict(start.middle.state_dict())
    return model
