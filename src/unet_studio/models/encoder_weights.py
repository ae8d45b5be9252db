"""Put an encoder's trained weights into a network, whatever its number of input channels.

Everything is checked against the encoder as its library builds it: every weight of the
network has to come from the file, and every weight of the file has to have a place in the
encoder or in the classifier that a segmentation network does without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.models.foreign.containers import read_weights
from unet_studio.models.model import check_weights, shapes_only
from unet_studio.models.networks.smp import quiet

COLOURS = 3
_SHOWN = 5
# What the classifier of a published network is called, for encoders that leave it away.
_CLASSIFIER = re.compile(r"(fc|_fc|classifier|last_linear|head|linear|aux_logits)\.")


def load_encoder(network: nn.Module, encoder: str, path: Path) -> tuple[str, ...]:
    """Load a file of encoder weights into a network of :mod:`.networks.smp`.

    The first layer is adapted to the network's channels by :func:`adapt_channels`.

    Parameters
    ----------
    network : torch.nn.Module
        As built for any number of channels; changed in place.
    encoder : str
        Name in the card's options.
    path : Path
        With the names of tensors that the encoder's library uses.

    Returns
    -------
    tuple of str
        What was done to the weights on the way, for the user.

    Raises
    ------
    ModelError
        If file and encoder do not fit exactly.
    """
    found = read_weights(path)  # nothing in the file is run
    weights, notes = found.weights, found.notes
    if encoder.startswith("tu-"):
        weights = _of_timm(encoder, weights, network, str(path))
    else:
        weights = _of_smp(encoder, weights, str(path))
    part: Any = network.encoder
    target = part.state_dict()
    # An encoder of less depth does without the last stages, which the file has to have.
    weights = {name: value for name, value in weights.items() if name in target}
    for name, value in weights.items():
        if _only_channels_differ(value, target[name]):
            weights[name] = adapt_channels(value, target[name].shape[1])
    check_weights(part, weights, str(path))
    nn.Module.load_state_dict(part, weights)
    return notes


def _only_channels_differ(value: torch.Tensor, wanted: torch.Tensor) -> bool:
    return (
        value.ndim == wanted.ndim == 4
        and value.shape[1] == COLOURS != wanted.shape[1]
        and value.shape[0] == wanted.shape[0]
        and value.shape[2:] == wanted.shape[2:]
    )


def adapt_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Change a first layer from red, green, blue to any number of channels.

    An image whose channels are all equal gives the same as a grey image did in all three
    colours. Fewer channels keep their colour's weights and share out those of the missing;
    more repeat the colours, each divided by how often it is there. For one channel this is
    the sum, for multiples of three the cyclic copy rescaled, both as in
    segmentation-models-pytorch; in between, its cyclic copy would not keep the sum.

    Parameters
    ----------
    weight : tensor, axes (C_out, 3, Y, X)
    channels : int

    Returns
    -------
    tensor, axes (C_out, channels, Y, X)
    """
    if channels < COLOURS:
        rest = weight[:, channels:].sum(dim=1, keepdim=True)
        return weight[:, :channels] + rest / channels
    colours = torch.arange(channels) % COLOURS
    times = torch.bincount(colours, minlength=COLOURS).to(weight.dtype)
    return weight[:, colours] / times[colours].reshape(1, -1, *[1] * (weight.ndim - 2))


def _of_timm(
    encoder: str, weights: dict[str, torch.Tensor], network: Any, source: str
) -> dict[str, torch.Tensor]:
    """Return the part of a timm model's weights that its encoder has, by the encoder's names."""
    import timm

    name = encoder.removeprefix("tu-")
    with shapes_only():
        whole = timm.create_model(name, pretrained=False).state_dict()
        bare = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
    # A classifier of other classes than ImageNet's, or none, is as good: it is not used.
    body = {n: w for n, w in weights.items() if n in bare or n not in whole}
    _compare(bare, body, encoder, source)
    flat = {_flat(n): w for n, w in body.items()}
    return {n: flat[_flat(n.removeprefix("model."))] for n in network.encoder.state_dict()}


def _flat(name: str) -> str:
    """Forget how modules are nested: timm's feature networks write stages_0 for stages.0."""
    return name.replace(".", "_")


def _of_smp(
    encoder: str, weights: dict[str, torch.Tensor], source: str
) -> dict[str, torch.Tensor]:
    """Return the weights of an encoder of segmentation-models-pytorch, without a classifier."""
    from segmentation_models_pytorch.encoders import get_encoder

    with shapes_only(), quiet():
        part = get_encoder(encoder, in_channels=COLOURS, weights=None)
    expected = part.state_dict()
    body = {n: w for n, w in weights.items() if n in expected or not _CLASSIFIER.match(n)}
    _compare(expected, body, encoder, source)
    return body


def _compare(
    expected: Mapping[str, torch.Tensor],
    weights: Mapping[str, torch.Tensor],
    encoder: str,
    source: str,
) -> None:
    """Refuse weights that are not exactly those of an encoder.

    Raises
    ------
    ModelError
        Naming the first differences.
    """
    problems = [f"{n} is missing" for n in expected if n not in weights]
    problems += [f"{n} is not part of it" for n in weights if n not in expected]
    problems += [
        f"{n} has shape {tuple(w.shape)}, not {tuple(expected[n].shape)}"
        for n, w in weights.items()
        if n in expected and w.shape != expected[n].shape
    ]
    if not problems:
        return
    more = len(problems) - _SHOWN
    shown = "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
    raise ModelError(
        f"The weights in {source} are not those of the encoder {encoder}: {shown}. "
        "Choose the encoder that the file was made for, or another file."
    )
