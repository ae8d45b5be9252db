"""How large training crops are, and how many make a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.fit_settings import FitSettings

_MOST_CROPS = 24


def crop_edges(card: ModelCard, crop: int, shapes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return the edges of training crops, multiples of the strides, [Z] Y X.

    Parameters
    ----------
    card : ModelCard
    crop : int
        Wanted edge along Y and X, in pixels.
    shapes : sequence of shape
        Of the frames: crops need not be larger than the largest.
    """
    edges = []
    for axis, (stride, patch) in enumerate(zip(card.strides, card.patches, strict=True)):
        longest = max(shape[axis] for shape in shapes)
        wanted = min(crop if card.ndim == 2 else min(crop, 48), max(patch, 2 * stride), longest)
        edges.append(max(stride, -(-wanted // stride) * stride))
    return (max(edges),) * 2 if card.ndim == 2 else tuple(edges)


def crops_per_step(crop: Sequence[int], settings: FitSettings) -> int:
    """Return how many crops make a step: more where images are small.

    Parameters
    ----------
    crop : sequence of int
        Edges, [Z] Y X, in pixels.
    """
    fitting = settings.batch * settings.crop**2 // math.prod(crop)
    return min(max(fitting, 2), _MOST_CROPS)
