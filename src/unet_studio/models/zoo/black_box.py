"""Measure a program that shows nothing of its inside: by what changes when the image does.

How far a changed square is seen gives a radius. It is only as large as what this one
image shows, so tiles with that halo are then compared with the whole; where they do not
agree, tiles are blended instead.
"""

from __future__ import annotations

import math
import os
from typing import Any

import torch

from unet_studio.models.card import ModelCard
from unet_studio.models.networks.embedded import Embedded
from unet_studio.models.probe import INVARIANCE_TOLERANCE, reach_beyond, tiling_error

_SEEN = 1e-6  # of the output's deviation; rounding is below
_LONGEST = {2: 512, 3: 128}
_LEAST_BYTES = 200.0
_GIVEN = {2: 256, 3: 64}


@torch.no_grad()
def measure_program(network: Embedded, card: ModelCard) -> dict[str, Any]:
    """Return the measured fields of a card: halo, exactness in tiles, memory.

    Parameters
    ----------
    network : Embedded
        Opened, on the CPU.
    card : ModelCard
    """
    fields: dict[str, Any] = {
        "halo": None,
        "tile_invariant": False,
        "bytes_per_pixel": _bytes_per_pixel(network, card),
    }
    radius = max((_radius(network, card, axis) or math.inf) for axis in range(card.ndim))
    if math.isinf(radius):
        return fields
    (stride,) = set(card.strides)  # of programs we choose it, the same for all axes
    halo = -(-int(radius) // stride) * stride
    limits = card.tile_limit or (math.inf,) * card.ndim
    if any(2 * (halo + 3 * stride) > limit for limit in limits):
        return fields  # a tile would hold nothing but halo, or it can not be tried
    errors = [
        tiling_error(network, card.in_channels, card.strides, halo, axis)
        for axis in range(card.ndim)
    ]
    if max(errors) <= INVARIANCE_TOLERANCE:
        fields.update(halo=halo, tile_invariant=True)
    return fields


def _radius(network: Embedded, card: ModelCard, axis: int) -> int | None:
    """Return how far a change is seen along an axis, or None if to the ends."""
    limit = min((card.tile_limit or (_LONGEST[card.ndim],) * card.ndim)[axis], _LONGEST[card.ndim])
    (stride,) = set(card.strides)
    length = limit // stride * stride
    if length < 4 * stride:
        return None
    shape = [stride] * card.ndim
    shape[axis] = length
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, card.in_channels, *shape), generator=generator)
    start = length // stride // 2 * stride
    changed = image.clone()
    changed.narrow(2 + axis, start, stride).add_(10.0)
    before, after = network(image), network(changed)
    other = [d for d in range(card.ndim + 2) if d != 2 + axis]
    seen = (after - before).abs().amax(dim=other) > _SEEN * float(before.std().clamp(min=1e-12))
    reach = reach_beyond(seen, start, stride)
    # At least one stride: a square that is not seen beyond itself may be so by chance.
    return None if reach is None else max(reach, stride)


def _bytes_per_pixel(network: Embedded, card: ModelCard) -> float:
    """Return by how much the process grew for a tile, per pixel."""
    import psutil

    (stride,) = set(card.strides)
    edge = min(*card.patches, *(card.tile_limit or card.patches))
    edge = -(-edge // stride) * stride
    if card.tile_limit is not None:
        edge = min(edge, *card.tile_limit)
    process = psutil.Process(os.getpid())
    before = process.memory_info().rss
    # The network continues it to what it takes, or refuses lengths beyond the memory.
    given = min(edge, _GIVEN[card.ndim])
    network(torch.zeros(1, card.in_channels, *[given] * card.ndim))
    grown = float(process.memory_info().rss - before)
    per_pixel: float = max(_LEAST_BYTES, grown / int(edge) ** card.ndim)
    return round(per_pixel, 1)
