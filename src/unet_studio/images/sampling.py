"""Measure a volume's intensities once, without reading all of a large one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.images.normalisation import NORMALISERS, Scaling, sample_for_statistics
from unet_studio.images.volume import Volume
from unet_studio.recipe import Normalisation

# Volumes up to so many pixels per channel are read whole; of larger ones, blocks
# on an even grid. Both depend on the shape alone, so that tiling and chunking
# can not change a result.
_WHOLE_LIMIT = 2**24
_BLOCK_EDGE = 256
_BLOCKS = 96


def sample_volume(
    volume: Volume,
    channels: Sequence[int],
    mix: Callable[[NDArray[Any]], NDArray[Any]],
) -> NDArray[np.float64]:
    """Return finite values that stand for the whole volume, axes (C, values).

    Parameters
    ----------
    volume : Volume
    channels : sequence of int
    mix : callable
        Applied to each block of axes (C, ...) that is read.

    Raises
    ------
    ImageError
        If nothing can be read or no pixel is finite.
    """
    lengths = {a: volume.info.length(a) for a in "TZYX" if a in volume.axes}
    if math.prod(lengths.values()) <= _WHOLE_LIMIT:
        return sample_for_statistics(mix(_channels_first(volume.read({}, channels), volume)))
    blocks = [
        mix(_channels_first(volume.read(region, channels), volume)).reshape(
            -1, math.prod(s.stop - s.start for s in region.values())
        )
        for region in _regions(lengths)
    ]
    return sample_for_statistics(np.concatenate(blocks, axis=1))


def measure_scaling(
    volume: Volume,
    channels: Sequence[int],
    normalisation: Normalisation,
    mix: Callable[[NDArray[Any]], NDArray[Any]],
) -> Scaling:
    """Measure the scaling that a normalisation asks for, on the whole volume.

    Raises
    ------
    RecipeError
        If the normalisation does not exist.
    ImageError
        If the volume has no finite pixel.
    """
    normaliser = NORMALISERS.load(normalisation.method)
    scaling: Scaling = normaliser(sample_volume(volume, channels, mix), **normalisation.options)
    return scaling


def _channels_first(block: NDArray[Any], volume: Volume) -> NDArray[Any]:
    return np.moveaxis(block, 1, 0) if "T" in volume.axes else block


def _regions(lengths: dict[str, int]) -> list[dict[str, slice]]:
    """Blocks on an even grid: planes first, then positions inside them."""
    planes = math.prod(lengths.get(a, 1) for a in "TZ")
    per_plane = max(1, _BLOCKS // planes)
    across = max(1, math.isqrt(per_plane))
    counts = {"Y": across, "X": max(1, per_plane // across)}
    remaining = _BLOCKS
    for axis in "TZ":
        if axis in lengths:
            counts[axis] = min(lengths[axis], remaining)
            remaining = max(1, remaining // counts[axis])
    spans = {}
    for axis, length in lengths.items():
        edge = min(length, _BLOCK_EDGE) if axis in "YX" else 1
        count = min(counts[axis], max(1, length // edge))
        starts = np.linspace(0, length - edge, 2 * count + 1)[1::2].astype(int)
        spans[axis] = [slice(int(s), int(s) + edge) for s in starts]
    return [
        dict(zip(spans, combination, strict=True))
        for combination in itertools.product(*spans.values())
    ]
