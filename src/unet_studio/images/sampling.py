"""Measure a volume's intensities once, without reading all of a large one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.images.normalisation import (
    Scaling,
    known_pixels,
    sample_for_statistics,
    subsample,
)
from unet_studio.images.normalisers import NORMALISERS, check_normalisation
from unet_studio.images.volume import Volume
from unet_studio.recipe import Normalisation

# Volumes up to so many pixels per channel are read whole; of larger ones, blocks
# on an even grid. Both depend on the shape alone, so that tiling and chunking
# can not change a result.
_WHOLE_LIMIT = 2**24
_BLOCK_EDGE = 256
_BLOCKS = 96
_READERS = 4  # threads: most of the time goes into unpacking chunks
# Where those blocks miss the signal, all is read in pieces of this size, and
# about so many values of each channel are kept.
_SEARCH_EDGES = {"T": 1, "Z": 8, "Y": 1024, "X": 1024}
_SEARCH_VALUES = 2_000_000


def sample_volume(
    volume: Volume,
    channels: Sequence[int],
    mix: Callable[[NDArray[Any]], NDArray[Any]],
    check: Callable[[], None] | None = None,
) -> NDArray[np.float64]:
    """Return values that stand for the whole volume, axes (C, values).

    Large volumes are read in part. Where that part shows no contrast in some
    channel (a sparse image, a padded one), all is read, block by block.

    Parameters
    ----------
    volume : Volume
    channels : sequence of int
    mix : callable
        Applied to each block of axes (C, ...) that is read.
    check : callable, optional
        Called between blocks, in any thread; may raise to stop.

    Returns
    -------
    array of float64, axes (C, values)
        NaN where a channel has no finite value.

    Raises
    ------
    ImageError
        If something can not be read or no pixel is finite.
    """

    def read(region: Mapping[str, slice]) -> NDArray[Any]:
        if check is not None:
            check()
        return mix(_channels_first(volume.read(region, channels), volume))

    lengths = {a: volume.info.length(a) for a in "TZYX" if a in volume.axes}
    if math.prod(lengths.values()) <= _WHOLE_LIMIT:
        return sample_for_statistics(read({}))
    regions = _regions(lengths)
    with ThreadPoolExecutor(_READERS if volume.concurrent else 1, "unet-studio-sample") as pool:
        blocks = [
            block.reshape(-1, math.prod(s.stop - s.start for s in region.values()))
            for region, block in zip(regions, pool.map(read, regions), strict=True)
        ]
    sample = subsample(np.concatenate(blocks, axis=1))
    del blocks
    flat = ~_has_contrast(sample)
    if flat.any():
        regions = _every_region(lengths)
        sample = _searched(sample, flat, map(read, regions), len(regions))
    return known_pixels(sample)


def measure_scaling(
    volume: Volume,
    channels: Sequence[int],
    normalisation: Normalisation,
    mix: Callable[[NDArray[Any]], NDArray[Any]],
    check: Callable[[], None] | None = None,
) -> Scaling:
    """Measure the scaling that a normalisation asks for, on the whole volume.

    Parameters are those of :func:`sample_volume`.

    Raises
    ------
    RecipeError
        If the normalisation does not exist, or its options do not fit.
    ImageError
        If the volume has no finite pixel.
    """
    check_normalisation(normalisation)
    normaliser = NORMALISERS.load(normalisation.method)
    sample = sample_volume(volume, channels, mix, check)
    try:
        scaling: Scaling = normaliser(sample, **normalisation.options)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"Normalisation {normalisation.method!r} can not use its options on {volume.name!r}: "
            f"{error}. Check them."
        ) from error
    return scaling


def _channels_first(block: NDArray[Any], volume: Volume) -> NDArray[Any]:
    return np.moveaxis(block, 1, 0) if "T" in volume.axes else block


def _extremes(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return least and largest finite value of each channel; +inf and -inf if it has none."""
    if values.dtype.kind != "f":
        return values.min(axis=1).astype(np.float64), values.max(axis=1).astype(np.float64)
    finite = np.isfinite(values)
    low = values.min(axis=1, initial=np.inf, where=finite)
    return low.astype(np.float64), values.max(axis=1, initial=-np.inf, where=finite).astype(
        np.float64
    )


def _has_contrast(sample: NDArray[np.float64]) -> NDArray[np.bool_]:
    low, high = _extremes(sample)
    return low < high


def _searched(
    sample: NDArray[np.float64],
    flat: NDArray[np.bool_],
    blocks: Iterable[NDArray[Any]],
    count: int,
) -> NDArray[np.float64]:
    """Put values of the whole volume where a sample has no contrast.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
    flat : array of bool, axes (C,)
        The channels to look at; the others stay as they are.
    blocks : iterable of array, axes (C, ...)
        Together the whole volume.
    count : int
        How many blocks there are.
    """
    low, high = np.full(int(flat.sum()), np.inf), np.full(int(flat.sum()), -np.inf)
    parts = []
    for block in blocks:
        wanted = block[flat]
        least, largest = _extremes(wanted.reshape(len(wanted), -1))
        low, high = np.minimum(low, least), np.maximum(high, largest)
        parts.append(subsample(wanted, max(1, _SEARCH_VALUES // count)))
    unknown = np.isnan(sample[flat]).all(axis=1)
    better = (low < high) | (unknown & np.isfinite(low))
    if not better.any():
        return sample
    # The extremes belong to it: an even sample may miss a few bright pixels.
    found = np.concatenate([*parts, low[:, None], high[:, None]], axis=1)[better]
    width = max(sample.shape[1], found.shape[1])
    joined = np.full((len(sample), width), np.nan)
    joined[:, : sample.shape[1]] = sample
    improved = np.flatnonzero(flat)[better]
    joined[improved] = np.nan
    joined[improved, : found.shape[1]] = found
    return joined


def _every_region(lengths: Mapping[str, int]) -> list[dict[str, slice]]:
    """Cut the whole volume into pieces that memory holds."""
    spans = [
        [slice(i, min(i + _SEARCH_EDGES[a], n)) for i in range(0, n, _SEARCH_EDGES[a])]
        for a, n in lengths.items()
    ]
    return [dict(zip(lengths, place, strict=True)) for place in itertools.product(*spans)]


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
