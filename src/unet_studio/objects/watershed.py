"""Seeded watershed: take touching objects apart where the network sees a valley.

Every pixel of the foreground has a height: how deep inside its object it lies,
less the boundary if wished. Each summit is a seed and the foreground is
flooded from them. Noise makes more summits than there are objects, so two
neighbours are joined again unless the pass between them lies far enough below
the lower of the two. This asks for no absolute height: an object that the
network is unsure of keeps its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from skimage.segmentation import watershed as flood

from unet_studio.objects.cleaning import (
    connected,
    drop_small,
    fill_label_holes,
    parts_at_once,
    pixels_of,
)
from unet_studio.objects.methods import Method, MethodOptions, Support

if TYPE_CHECKING:
    from unet_studio.models.card import Representation


class WatershedOptions(MethodOptions):
    """Options of the seeded watershed."""

    threshold: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Pixels with a higher foreground probability than this (0 to 1) belong to "
        "objects. Lower it where objects are missed or come out too small.",
    )
    split_depth: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="How deep the valley between two touching objects has to be to keep them "
        "apart (0 to 1, where 1 is from the centre to the edge). Lower it where neighbours stay "
        "joined, raise it where objects are cut into pieces.",
    )
    boundary_weight: float = Field(
        default=0.0,
        ge=0,
        le=2,
        description="How much a predicted boundary deepens a valley. 0 looks at the distance "
        "from the edge only; raise it where neighbours stay joined in spite of a clear line.",
    )
    smoothing: float = Field(
        default=1.0,
        ge=0,
        le=20,
        description="Blur (standard deviation in pixels) before looking for centres. Raise it "
        "where large objects are cut into pieces, lower it for objects of a few pixels.",
    )
    min_confidence: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Remove faint objects: an object's mean foreground probability has to lie "
        "this share of the way from the threshold up to 1. 0 keeps every object.",
    )
    min_size: int = Field(
        default=15,
        ge=0,
        description="Objects with fewer pixels (voxels in 3D) than this are removed.",
    )
    fill_holes: bool = Field(
        default=True, description="Fill holes that are enclosed by one object on all sides."
    )


@dataclass(frozen=True)
class _Passes:
    """The highest pass between each two basins that touch.

    ``first`` and ``second`` are the basins, ``height`` is that of the pass;
    from the highest pass to the lowest.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    height: NDArray[np.float32]


def _passes(basins: NDArray[np.integer], height: NDArray[np.float32]) -> _Passes:
    """Find where neighbouring basins meet."""
    most = int(basins.max()) + 1
    pairs, heights = [], []
    for axis in range(basins.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        a, b = basins[before], basins[after]
        meet = (a != b) & (a > 0) & (b > 0)
        one, other = a[meet].astype(np.int64), b[meet].astype(np.int64)
        pairs.append(np.minimum(one, other) * most + np.maximum(one, other))
        heights.append(np.minimum(height[before][meet], height[after][meet]))
    unique, inverse = np.unique(np.concatenate(pairs), return_inverse=True)
    highest = np.full(len(unique), -np.inf, np.float32)
    np.maximum.at(highest, inverse.ravel(), np.concatenate(heights))
    order = np.argsort(-highest, kind="stable")
    first, second = np.divmod(unique[order], most)
    return _Passes(first, second, highest[order])


def _join_shallow(
    passes: _Passes, summits: NDArray[np.float32], depth: float
) -> NDArray[np.int64]:
    """Join basins whose pass is at most ``depth`` below the lower summit.

    Parameters
    ----------
    summits : array of float32, axes (basins + 1,)
        Height of the highest point of each basin; 0 is no basin.

    Returns
    -------
    array of int64, axes (basins + 1,)
        Number of the basin that each has become part of.
    """
    parent = list(range(len(summits)))
    top = summits.tolist()

    def root(basin: int) -> int:
        while parent[basin] != basin:
            parent[basin] = parent[parent[basin]]
            basin = parent[basin]
        return basin

    steps = zip(passes.first.tolist(), passes.second.tolist(), passes.height.tolist(), strict=True)
    for first, second, height in steps:
        one, other = root(first), root(second)
        if one != other and min(top[one], top[other]) - height <= depth:
            if top[one] < top[other]:
                one, other = other, one
            parent[other] = one
    return np.array([root(basin) for basin in range(len(parent))], np.int64)


def _heights(
    probabilities: NDArray[np.floating], options: WatershedOptions
) -> NDArray[np.float32]:
    """Height of every pixel, from about 0 at an object's edge to 1 at its centre."""
    height: NDArray[np.float32] = probabilities[2].astype(np.float32)
    if options.boundary_weight > 0:
        height -= np.float32(options.boundary_weight) * probabilities[1].astype(np.float32)
    np.nan_to_num(height, copy=False)
    if options.smoothing > 0:
        height = ndimage.gaussian_filter(height, options.smoothing, mode="nearest")
    return height


def _levels(height: NDArray[np.float32], starts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Levels to flood, such that no two starting pixels are level.

    The flood's queue takes level starting pixels in an order that depends on
    everything else in it. Here the first in the scan goes first, so that a piece is
    cut alike whatever else is in the image. Steps are the smallest of float64:
    far too small to overtake another float32 height.
    """
    levels: NDArray[np.float64] = -height.astype(np.float64)
    where = np.flatnonzero(starts)
    at = levels.ravel()[where] + 0.0  # no -0.0, whose bits would sort apart
    order = np.argsort(at, kind="stable")
    at = at[order]
    new = np.append(True, at[1:] != at[:-1])
    group = np.cumsum(new) - 1
    ends = np.append(np.flatnonzero(new)[1:], len(at))
    left = ends[group] - np.arange(len(at))  # the last of a group takes one step down
    bits = at.view(np.int64)
    # As whole numbers, floats are in order; negative ones run backwards.
    turn = np.int64(np.iinfo(np.int64).min)
    ordered = np.where(bits < 0, turn - bits, bits) - left
    unlike = np.where(ordered < 0, turn - ordered, ordered).view(np.float64)
    np.put(levels, where[order], unlike)
    return levels


def _split(
    pieces: NDArray[np.int32], count: int, height: NDArray[np.float32], depth: float
) -> NDArray[np.int32]:
    """Cut each connected piece of foreground along its valleys.

    Parameters
    ----------
    pieces : array of int32, axes ([Z,] Y, X)
        Connected pieces 1..count of the foreground.

    Returns
    -------
    array of int32, axes ([Z,] Y, X)
        Unique ids with gaps.
    """
    mask = pieces > 0
    # Outside must not hide a summit at the edge, as in an object of a few pixels.
    height = np.where(mask, height, np.float32(-np.inf))
    seeds, found = connected(mask & (height == ndimage.maximum_filter(height, size=3)))
    positions = np.flatnonzero(seeds)
    owner = np.zeros(found + 1, np.int64)
    owner[seeds.ravel()[positions]] = pieces.ravel()[positions]
    # Flooding is the slow part, and most pieces have one summit and no need of it.
    several = np.bincount(owner[1:], minlength=count + 1) > 1
    if not several.any():
        return pieces
    box = ndimage.find_objects(several[pieces].astype(np.uint8))[0]
    part, area = pieces[box], height[box]
    crowded = several[part]
    starts = np.where(crowded, seeds[box], 0)
    basins: NDArray[np.int32] = flood(_levels(area, starts > 0), starts, mask=crowded)
    summits = np.zeros(found + 1, np.float32)
    summits[seeds.ravel()[positions]] = height.ravel()[positions]
    joined = _join_shallow(_passes(basins, area), summits, depth)
    labels = pieces.copy()
    labels[box] = np.where(crowded, joined[basins] + count, part)
    return labels


def _drop_faint(
    labels: NDArray[np.int32], foreground: NDArray[np.floating], options: WatershedOptions
) -> NDArray[np.int32]:
    """Remove objects whose mean foreground probability is low."""
    if options.min_confidence <= 0 or not labels.any():
        return labels
    needed = options.threshold + options.min_confidence * (1 - options.threshold)
    ids, values, pixels = labels.ravel(), foreground.ravel(), pixels_of(labels)
    sums = np.zeros(len(pixels))
    for part in parts_at_once(ids.size):
        # Pixel by pixel on what is there: rounded as if all were added up in one go.
        np.add.at(sums, ids[part], values[part].astype(np.float64))
    pixels[0] = sums[0] = 0
    faint = sums < needed * pixels
    return np.where(faint[labels], np.int32(0), labels)


def watershed(
    probabilities: NDArray[np.floating],
    options: WatershedOptions,
    representation: Representation,
) -> NDArray[np.integer]:
    """Make objects of foreground, boundary and distance.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Channels foreground, boundary, distance from the object's edge (1 at
        the deepest point of each object). NaN counts as background.

    Returns
    -------
    array of int32, axes ([Z,] Y, X)
        Every connected piece of foreground holds at least one object, unless
        that is too small or too faint. The same input gives the same labels.
    """
    pieces, count = connected(probabilities[0] > options.threshold)
    if count == 0:
        return pieces
    labels = _split(pieces, count, _heights(probabilities, options), options.split_depth)
    labels = _drop_faint(labels, probabilities[0], options)
    if options.fill_holes:
        labels = fill_label_holes(labels)
    return drop_small(labels, options.min_size)


def _foreground(
    probabilities: NDArray[np.floating],
    options: WatershedOptions,
    representation: Representation,
) -> NDArray[np.bool_]:
    return np.asarray(probabilities[0] > options.threshold)


def _margin(options: WatershedOptions) -> int:
    # The blur is cut off at four standard deviations, as scipy rounds them; a summit
    # compares its pixel with the neighbours, which may belong to another piece.
    return int(4.0 * options.smoothing + 0.5) + 1


WATERSHED = Method(
    watershed,
    WatershedOptions,
    ("objects",),
    makes_objects=True,
    support=Support(_foreground, _margin, diagonal=lambda options: False),
)
