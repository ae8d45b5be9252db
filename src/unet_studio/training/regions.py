"""Annotations as regions: what is judged as one, and what is held back for judging.

A network that has learned from a pixel knows something of all that its receptive
field overlaps. What is held back must therefore lie farther than that from all
that is learned from, or the judgement only asks what was told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_studio.training.annotations import BACKGROUND, Annotations, Box

# Dense annotations are cut into cells of this edge, in pixels: one large region
# would be a single opinion.
CELL = 64
# Fewer regions say next to nothing. Six may show a loss; a gain takes seven, all of which by
# chance is 1 in 128.
LEAST_HELD_BACK = 6
# Of as many held back or more, a third does not judge but chooses what is judged. By fewer
# the choice would be chance, and there would be too few left to judge on.
_ENOUGH_TO_CHOOSE = 24
_CHOOSING = 3
_LEAST_CHOOSING = 6
_SHARE = 0.25
# At most this share of the regions may be lost to the training.
_LARGEST_LOSS = 0.4
_MOST_REGIONS = 3000
# Pixels of background of complete boxes that are written out, such as 512 tiles.
MOST_FILLED = 1 << 21


@dataclass(frozen=True, eq=False)
class Region:
    """A connected piece of annotation of one kind.

    Attributes
    ----------
    exercise : int
        Number of the image.
    frame : tuple of int
    kind : int
        Class as painted; of objects 2, of background 1.
    places : array of int, axes (pixels, ndim)
        Within the frame.
    rows : array of int, axes (pixels,)
        Which pixels of the annotations these are; empty in complete boxes.
    """

    exercise: int
    frame: tuple[int, ...]
    kind: int
    places: NDArray[np.int64]
    rows: NDArray[np.int64]

    @property
    def low(self) -> NDArray[np.int64]:
        """First pixel along each axis."""
        return np.asarray(self.places.min(axis=0))

    @property
    def high(self) -> NDArray[np.int64]:
        """Last pixel along each axis."""
        return np.asarray(self.places.max(axis=0))


def find_regions(annotations: Annotations, ndim: int, exercise: int = 0) -> list[Region]:
    """Return the connected pieces of what was painted, large ones cut into cells.

    Parameters
    ----------
    annotations : Annotations
    ndim : {2, 3}
        Spatial dimensions of the network.
    exercise : int
        Number to give them.
    """
    places = annotations.places.astype(np.int64)
    if not len(places):
        return []
    kinds = annotations.values.astype(np.int64)
    if annotations.mode == "objects":
        kinds = np.minimum(kinds, 2)
    keys = np.ravel_multi_index(tuple(places.T), annotations.shape)
    first, second = _touching(places, keys, kinds, annotations.shape, ndim)
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(len(keys),) * 2)
    _, groups = connected_components(graph, directed=False)
    cells = places[:, -ndim:] // CELL
    _, groups = np.unique(np.column_stack([groups, cells]), axis=0, return_inverse=True)
    groups = groups.ravel()
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    return [
        Region(
            exercise, tuple(places[rows[0], :-ndim].tolist()), int(kinds[rows[0]]),
            places[rows, -ndim:], rows,
        )
        for rows in np.split(order, starts[1:])
    ]  # fmt: skip


def _touching(
    places: NDArray[np.int64],
    keys: NDArray[np.int64],
    kinds: NDArray[np.int64],
    shape: tuple[int, ...],
    ndim: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of neighbouring pixels of the same kind, diagonals included."""
    pairs: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    steps = np.array(np.meshgrid(*[(-1, 0, 1)] * ndim, indexing="ij")).reshape(ndim, -1).T
    for step in steps[len(steps) // 2 + 1 :]:  # each pair once
        moved = places.copy()
        moved[:, -ndim:] += step
        inside = ((moved >= 0) & (moved < shape)).all(axis=1)
        rows = np.flatnonzero(inside)
        wanted = np.ravel_multi_index(tuple(moved[rows].T), shape)
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        same = (keys[found] == wanted) & (kinds[found] == kinds[rows])
        pairs.append((rows[same], found[same]))
    return np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs])


@dataclass(frozen=True)
class Split:
    """Annotations to learn from, and regions to judge on, all a receptive field apart.

    Attributes
    ----------
    training : tuple of Annotations
        One per image.
    judging : tuple of Region
        Of which nothing that is judged has heard. Empty if there is too little to judge: then
        everything is learned from.
    choosing : tuple of Region
        By which to choose between several results. Empty if there is too little for both.
    left_out : int
        Regions that are none of these, being too near to others.
    """

    training: tuple[Annotations, ...]
    judging: tuple[Region, ...] = ()
    choosing: tuple[Region, ...] = ()
    left_out: int = 0

    @property
    def held_back(self) -> tuple[Region, ...]:
        """All that is not learned from on purpose."""
        return (*self.judging, *self.choosing)


def split_annotations(every: Sequence[Annotations], halos: Sequence[int], seed: int = 0) -> Split:
    """Hold back about a quarter of the regions, apart from the rest by a receptive field.

    If that is many, a third of it, as far from the others, is for choosing.
    Regions in other images, or in other frames of a 2D network, are apart already.
    Those that lie between the two are left out.

    Parameters
    ----------
    every : sequence of Annotations
        One per image.
    halos : sequence of int
        Receptive-field radius per axis of the network, [Z] Y X, in pixels.
    seed : int
    """
    ndim = len(halos)
    regions = [r for i, a in enumerate(every) for r in find_regions(a, ndim, i)]
    wanted = max(LEAST_HELD_BACK, round(_SHARE * len(regions)))
    kinds = {r.kind for r in regions}
    if wanted > _LARGEST_LOSS * len(regions) or len(regions) > _MOST_REGIONS or len(kinds) < 2:
        return Split(tuple(every))
    near, every_kind = _near(regions, halos), np.array([r.kind for r in regions])
    to_choose = wanted // _CHOOSING if wanted >= _ENOUGH_TO_CHOOSE else 0
    for some in (to_choose, 0) if to_choose else (0,):
        judging, _ = _choose(near, every_kind, wanted - some, seed)
        choosing, lost = _choose(near, every_kind, some, seed, judging)
        parts = [judging, ~(judging | choosing | lost), *([choosing] if some else [])]
        enough = judging.sum() >= LEAST_HELD_BACK and choosing.sum() >= min(some, _LEAST_CHOOSING)
        if enough and all(set(every_kind[part].tolist()) == kinds for part in parts):
            break
    else:
        return Split(tuple(every))
    judged, chosen = (
        tuple(r for r, mine in zip(regions, part, strict=True) if mine)
        for part in (judging, choosing)
    )
    training = (without(a, judged + chosen, i, halos) for i, a in enumerate(every))
    return Split(tuple(training), judged, chosen, int(lost.sum()))


def _near(regions: Sequence[Region], halos: Sequence[int]) -> NDArray[np.bool_]:
    """Whether two regions are within a receptive field of each other: boxes are compared."""
    low = np.array([r.low for r in regions])
    high = np.array([r.high for r in regions])
    planes = {plane: i for i, plane in enumerate({(r.exercise, *r.frame) for r in regions})}
    plane = np.array([planes[(r.exercise, *r.frame)] for r in regions])
    near: NDArray[np.bool_] = np.equal.outer(plane, plane)
    for axis, halo in enumerate(halos):
        gap = np.maximum(low[:, None, axis] - high[None, :, axis],
                         low[None, :, axis] - high[:, None, axis])  # fmt: skip
        near &= gap <= halo
    return near


def _choose(
    near: NDArray[np.bool_],
    kinds: NDArray[np.int64],
    wanted: int,
    seed: int,
    before: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Choose regions to hold back, of all kinds in turn, that cost the fewest others.

    Returns them, and those that are lost by them and by what was chosen ``before``, to which
    none of them is near.
    """
    count = len(near)
    order = np.random.default_rng(seed).permutation(count)
    held, taken = np.zeros(count, bool), np.zeros(count, bool) if before is None else before
    barred = np.asarray(near[taken].any(axis=0), bool)
    lost = barred & ~taken
    turns = np.unique(kinds)
    for turn in range(wanted):
        open_ = np.array(
            [
                i for i in order
                if not (held[i] or barred[i]) and kinds[i] == turns[turn % len(turns)]
            ]
        )  # fmt: skip
        if not len(open_):
            continue
        costs = (near[open_] & ~(held | lost | taken)).sum(axis=1)
        best = open_[int(np.argmin(costs))]
        new_lost = lost | near[best]
        if (new_lost | held | taken).sum() > _LARGEST_LOSS * count:
            break
        held[best] = True
        lost = new_lost & ~held
    return held, lost


def without(
    annotations: Annotations, held_back: Sequence[Region], exercise: int, halos: Sequence[int]
) -> Annotations:
    """Return what may be learned from while some regions are held back.

    Parameters
    ----------
    annotations : Annotations
        Of image number ``exercise``, without complete boxes (see :func:`filled`);
        perhaps with strokes that are newer than the regions.
    held_back : sequence of Region
    halos : sequence of int
        Receptive-field radius per axis, [Z] Y X, in pixels.
    """
    reach, ndim = np.asarray(halos), len(halos)
    frames, inner = annotations.places[:, :-ndim], annotations.places[:, -ndim:]
    kept = np.ones(len(annotations), bool)
    for region in held_back:
        if region.exercise == exercise:
            low, high = region.low - reach, region.high + reach
            near = ((inner >= low) & (inner <= high)).all(axis=1)
            kept &= ~(near & (frames == np.asarray(region.frame, np.int64)).all(axis=1))
    return annotations.only(kept)


def filled(annotations: Annotations) -> Annotations:
    """Return annotations in which the background of complete boxes is written out.

    Of boxes that hold more than :data:`MOST_FILLED` pixels in all, only some tiles are: first
    those around what is painted, then others by chance, always the same.
    """
    extra: list[NDArray[np.int64]] = []
    for box in _tiles_to_fill(annotations):
        block = annotations.block(box.start, box.stop)
        unpainted = np.argwhere(block == BACKGROUND) + np.asarray(box.start)
        extra.append(unpainted)
    if not extra:
        return annotations
    every = np.concatenate([annotations.places.astype(np.int64), *extra])
    values = np.concatenate(
        [annotations.values, np.full(len(every) - len(annotations), BACKGROUND, np.int32)]
    )
    keys = np.ravel_multi_index(tuple(every.T), annotations.shape)
    _, first = np.unique(keys, return_index=True)  # those that were painted come first
    return replace(annotations.with_pixels(every[first], values[first]), complete=())


def _tiles_to_fill(annotations: Annotations) -> Sequence[Box]:
    """Return boxes that are filled: the complete ones, or tiles of them if they are large."""
    boxes = annotations.complete
    sizes = [math.prod(b - a for a, b in zip(x.start, x.stop, strict=True)) for x in boxes]
    if sum(sizes) <= MOST_FILLED:
        return boxes
    edge = np.array([1] * (len(annotations.shape) - 2) + [CELL, CELL])
    count = MOST_FILLED // (CELL * CELL)
    # Each box gets its share, so that no frame is left out for another one's size.
    shares = [max(1, count * size // sum(sizes)) for size in sizes]
    rng = np.random.default_rng(0)
    found = []
    for box, share in zip(boxes[:count], shares, strict=False):
        start, stop = np.asarray(box.start), np.asarray(box.stop)
        for tile in _chosen_tiles(annotations, start, stop, edge, share, rng):
            low = start + tile * edge
            high = np.minimum(low + edge, stop)
            found.append(Box(tuple(low.tolist()), tuple(high.tolist())))
    return found[:count]


def _chosen_tiles(
    annotations: Annotations, start: NDArray[np.int64], stop: NDArray[np.int64],
    edge: NDArray[np.int64], count: int, rng: np.random.Generator,
) -> NDArray[np.int64]:  # fmt: skip
    """Return numbers of tiles of one box, axes (tiles, dimensions): near strokes, then others."""
    grid = -(-(stop - start) // edge)
    places = annotations.places
    inside = places[((places >= start) & (places < stop)).all(axis=1)]
    painted = np.unique((inside - start) // edge, axis=0)
    steps = np.array([(0,) * (len(grid) - 2) + (y, x) for y in (0, -1, 1) for x in (0, -1, 1)])
    near = np.unique((painted[:, None] + steps).reshape(-1, len(grid)), axis=0)
    near = near[((near >= 0) & (near < grid)).all(axis=1)]
    # At most half of them: background far from all that is painted is to be learned, too.
    near = rng.permutation(near)[: max(1, count // 2)]
    others = rng.integers(0, grid, (count, len(grid)))
    every = np.concatenate([near, others])
    _, first = np.unique(every, axis=0, return_index=True)
    return every[np.sort(first)][:count]
