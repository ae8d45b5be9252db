"""A model in memory: a network with its weights, its card and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_model_file, write_model_file
from unet_studio.models.networks import NETWORKS
from unet_studio.models.sources import open_source

_SHOWN_DIFFERENCES = 5


@dataclass(frozen=True)
class Model:
    """A network ready to predict.

    Attributes
    ----------
    card : ModelCard
    network : torch.nn.Module
        In evaluation mode, weights in float32, without gradients.
    sha256 : str
        Of the model file; empty for a model that was never saved.
    path : Path or None
    """

    card: ModelCard
    network: nn.Module
    sha256: str = ""
    path: Path | None = None


def build_network(card: ModelCard) -> nn.Module:
    """Build the untrained network that a card describes."""
    return NETWORKS.load(card.architecture)(card)


def load_model(reference: str | Path | Model) -> Model:
    """Load a model by name, path or weight source.

    Parameters
    ----------
    reference : str or Path or Model
        ``"nuclei"`` (bundled or in the user's store), ``"my.safetensors"``, or
        ``"source:what"`` with a name of
        :data:`~unet_studio.models.sources.WEIGHT_SOURCES`, such as
        ``"random:unet-slim"``. A :class:`Model` is passed through.

    Raises
    ------
    ModelError
        If there is no such model, or its file is damaged or does not fit its card.
    """
    if isinstance(reference, Model):
        return reference
    return open_source(str(reference))


def model_from_file(path: Path) -> Model:
    """Load one model file.

    Raises
    ------
    ModelError
    """
    card, weights, sha256 = read_model_file(path)
    with torch.device("meta"):  # shapes are compared before memory is taken
        network = build_network(card)
    check_weights(network, weights, str(path))
    weights = {n: w.float() if w.is_floating_point() else w for n, w in weights.items()}
    network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(False)
    return Model(card, network, sha256, path)


def save_model(model: Model, path: Path) -> Model:
    """Write a model file and return the model as saved there.

    Raises
    ------
    ModelError
        If the path can not be written.
    """
    sha256 = write_model_file(model.card, model.network.state_dict(), path)
    return Model(model.card, model.network, sha256, path)


def check_weights(network: nn.Module, weights: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights that do not fit the network exactly, or are not numbers.

    Raises
    ------
    ModelError
        Naming the first differences.
    """
    expected = network.state_dict()
    problems = [f"{name} is missing" for name in expected if name not in weights]
    problems += [f"{name} is not part of the network" for name in weights if name not in expected]
    problems += [
        f"{name} has shape {tuple(weights[name].shape)}, not {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    if problems:
        more = len(problems) - _SHOWN_DIFFERENCES
        shown = "; ".join(problems[:_SHOWN_DIFFERENCES]) + (
            f"; and {more} more" if more > 0 else ""
        )
        raise ModelError(
            f"The weights in {source} do not fit the architecture that its card names: {shown}. "
            "The file was put together wrongly; get it again from where it was made."
        )
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ModelError(
                f"The weights in {source} hold NaN or infinite numbers (in {name}): their "
                "training failed. Use an earlier version of the model."
            )
