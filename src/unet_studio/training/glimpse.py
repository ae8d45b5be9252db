"""A quick look at what a network finds in a part of an image, while it learns or after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unet_studio.models.card import ModelCard
    from unet_studio.training.exercises import Exercise

# Context around what is looked at, in pixels: a part of the receptive field that
# matters little to the eye, and much to the time.
_CONTEXT = 32


@dataclass(frozen=True)
class View:
    """A part of one frame of an image.

    Attributes
    ----------
    exercise : int
        Number of the image.
    frame : tuple of int
        Position along the axes before the network's.
    start, stop : tuple of int
        Within the frame, [Z] Y X.
    """

    exercise: int
    frame: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Glimpse:
    """What a network finds in a view.

    Attributes
    ----------
    view : View
    foreground : array of float32, axes ([Z,] Y, X), range [0, 1]
        Probability of anything but background.
    uncertainty : array of float32, same axes, range [0, 1]
        See :func:`look`.
    """

    view: View
    foreground: NDArray[np.float32]
    uncertainty: NDArray[np.float32]


def look(
    network: nn.Module,
    exercise: Exercise,
    view: View,
    card: ModelCard,
    *,
    flips: bool = False,
    check: Callable[[], None] | None = None,
) -> Glimpse:
    """Predict a part of an image.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    exercise : Exercise
    view : View
    card : ModelCard
    flips : bool
        Average over mirror images.
    check : callable, optional
        Called between passes; may raise to stop.

    Returns
    -------
    Glimpse
        The uncertainty is the entropy of the (averaged) class probabilities over its
        largest value. With ``flips`` it is high where mirror images disagree, too: the
        entropy of a mean is their mean entropy plus their disagreement (Houlsby et al.
        2011, arXiv:1112.5745).
    """
    mirrors: list[tuple[int, ...]] = [(), (-2,), (-1,), (-2, -1)] if flips else [()]
    mean = class_probabilities(network, exercise, view, card, mirrors=mirrors, check=check)
    entropy = -(mean * np.log(np.clip(mean, 1e-6, 1))).sum(0) / np.log(len(mean))
    return Glimpse(
        view, (1 - mean[0]).astype(np.float32), np.clip(entropy, 0, 1).astype(np.float32)
    )


def class_probabilities(
    network: nn.Module,
    exercise: Exercise,
    view: View,
    card: ModelCard,
    *,
    context: int = _CONTEXT,
    mirrors: Sequence[tuple[int, ...]] = ((),),
    check: Callable[[], None] | None = None,
) -> NDArray[np.float32]:
    """Return what a network finds in a view, axes (K, [Z,] Y, X), background first.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    exercise : Exercise
    view : View
        Looked at in one pass.
    card : ModelCard
    context : int
        Pixels around the view that the network sees.
    mirrors : sequence of tuple of int
        Axes to flip; the mean of these images is returned.
    check : callable, optional
        Called before each of them; may raise to stop.
    """
    axes = list(zip(view.start, view.stop, card.strides, exercise.shape, strict=True))
    start = [max(0, (low - context) // stride * stride) for low, _, stride, _ in axes]
    stop = [min(n, high + context) for _, high, _, n in axes]
    pad = [(0, -(b - a) % s) for a, b, s in zip(start, stop, card.strides, strict=True)]
    block = np.pad(
        exercise.image(view.frame, start, stop), [(0, 0), *pad], mode="symmetric"
    )  # edges of an image look like its inside
    image = torch.from_numpy(block)[None].to(next(network.parameters()).device)
    total: torch.Tensor | None = None
    for mirror in mirrors:
        if check is not None:
            check()
        with torch.no_grad():
            logits = network(image.flip(mirror) if mirror else image)
            found = _probabilities(logits.float(), card)
        found = found.flip(mirror) if mirror else found
        total = found if total is None else total + found
    assert total is not None
    inside = tuple(
        slice(low - a, high - a) for (low, high, _, _), a in zip(axes, start, strict=True)
    )
    mean = (total[0] / len(mirrors)).cpu().numpy()
    return np.asarray(mean[(slice(None), *inside)], np.float32)


def _probabilities(logits: torch.Tensor, card: ModelCard) -> torch.Tensor:
    """Return the probabilities of background and the rest, axes (N, K, [Z,] Y, X)."""
    if card.output == "probabilities":
        found = logits
    else:
        found = logits.softmax(1) if card.representation == "classes" else logits.sigmoid()
    if card.representation == "classes":
        return found
    return torch.cat([1 - found[:, :1], found[:, :1]], dim=1)
