"""A model in memory: a network with its weights, its card and where it came from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.files import read_model_file, write_model_file
from unet_studio.models.networks import NETWORKS
from unet_studio.models.per_axis import in_words, spread
from unet_studio.models.sources import open_source

# Linux clears fresh memory page by page, which takes a third of the time of a network with
# large tiles. Torch asks for pages of 2 MiB, as numpy does by itself, if this is set when it
# allocates for the first time; a choice of the user's own stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_SHOWN_DIFFERENCES = 5
# DataParallel, torch.compile
_WRAPPERS = ("module.", "_orig_mod.")


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
    notes : tuple of str
        What was done to the file's content on the way, for the user.
    """

    card: ModelCard
    network: nn.Module
    sha256: str = ""
    path: Path | None = None
    notes: tuple[str, ...] = ()


def build_network(card: ModelCard) -> nn.Module:
    """Build the untrained network that a card describes.

    Raises
    ------
    ModelError
        If its options do not make a network.
    """
    builder = NETWORKS.load(card.architecture)
    try:
        return builder(card)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"The options {card.options} of the model {card.name!r} do not make a "
            f"{card.architecture!r} network: {error}. Correct its card, or get the file again."
        ) from None


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
    with shapes_only():  # shapes are compared before memory is taken
        network = build_network(card)
    stride = getattr(network, "stride", card.stride)
    if spread(stride, card.ndim) != card.strides:
        raise ModelError(
            f"The card in {path} gives a stride of {in_words(card.stride)}, but its network pools "
            f"by {in_words(stride)}. The file was put together wrongly; get it again from where "
            "it was made."
        )
    weights, notes = without_prefix(weights)
    check_weights(network, weights, str(path))
    weights = {n: w.float() if w.is_floating_point() else w for n, w in weights.items()}
    return Model(card, filled(network, card, weights), sha256, path, notes)


def filled(network: nn.Module, card: ModelCard, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Return a network, built in :func:`shapes_only`, with weights that fit it, ready to run."""
    network.load_state_dict(weights, assign=True)
    if any(buffer.is_meta for buffer in network.buffers()):
        # What is computed while building and not kept in files (tables of positions).
        network = build_network(card)
        network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


# What fills weights by chance. On the meta device there is nothing to fill, but torch would
# import its compiler for it: three seconds, each time that a process loads its first model.
_FILLING = frozenset({torch.Tensor.normal_, torch.Tensor.uniform_})


class _ShapesOnly(TorchFunctionMode):
    """Leaves weights unfilled, and makes real numbers where encoders read them while built."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FILLING and args[0].is_meta:
            return args[0]
        if func is torch.linspace:  # some encoders read from it
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Build networks on the meta device: shapes without memory."""
    with torch.device("meta"), _ShapesOnly():
        yield


def without_prefix(
    weights: dict[str, torch.Tensor],
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Take off the prefix that wrappers of torch put before every name, and say so."""
    for prefix in _WRAPPERS:
        if weights and all(name.startswith(prefix) for name in weights):
            note = f"The weights' names began with {prefix!r} (a wrapper's); it was taken off."
            return {n.removeprefix(prefix): w for n, w in weights.items()}, (note,)
    return weights, ()


def save_model(model: Model, path: str | Path) -> Model:
    """Write a model file and return the model as saved there.

    Parameters
    ----------
    model : Model
    path : str or Path
        Of a ``.safetensors`` file; one that is there is replaced.

    Raises
    ------
    ModelError
        If the path can not be written.
    """
    file = Path(path)
    sha256 = write_model_file(model.card, model.network.state_dict(), file)
    return Model(model.card, model.network, sha256, file)


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
