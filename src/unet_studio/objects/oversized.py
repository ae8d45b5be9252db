"""Objects of pieces that are too large to be looked at as a whole: made in overlapping parts."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from unet_studio.objects.block_task import BlockTask, ObjectTable, find_runs
from unet_studio.objects.grid import within
from unet_studio.objects.pieces import PieceMap, label_equal

# Blocks share a strip of at least this part of their shortest side.
_SHARED = 4


def beyond_limit(task: BlockTask, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pieces need a region of their own and do not fit into one.

    Parameters
    ----------
    boxes : array of int64, axes (piece, axis, 2)
    """
    shape = np.array(task.grid.shape, np.int64)
    low = np.maximum(boxes[:, :, 0] - task.margin, 0)
    high = np.minimum(boxes[:, :, 1] + task.margin, shape)
    # Not in whole numbers: the product of three edges could overflow.
    size = np.prod((high - low).astype(np.float64), axis=1)
    return np.asarray(task.grid.stretch(boxes) & (size > task.limit))


def blocks_of(pieces: PieceMap, chosen: NDArray[np.bool_]) -> list[int]:
    """Return the numbers of the blocks that some pieces lie in, ascending.

    Parameters
    ----------
    chosen : array of bool, axes (piece,)
        In the order of ``pieces.boxes``.
    """
    parts = np.flatnonzero(chosen[pieces.piece_of])
    # Blocks without a piece share their base with the next one that has some.
    return [int(n) for n in np.unique(np.searchsorted(pieces.bases, parts, side="right") - 1)]


def label_in_parts(
    task: BlockTask,
    pieces: PieceMap,
    chosen: NDArray[np.bool_],
    blocks: list[int],
    table: ObjectTable,
) -> Generator[int, None, NDArray[np.int64]]:
    """Label some pieces block by block, with a strip of the neighbouring blocks around.

    An object on a seam is found from both sides. The two are one object where each
    is that with which the other shares most of the strip.

    Parameters
    ----------
    chosen : array of bool, axes (piece,)
        Which pieces; all others have to be in the output already.
    blocks : list of int
        Where they are: that of :func:`blocks_of`.

    Yields
    ------
    int
        1 after each block.

    Returns
    -------
    array of int64, axes (pair, 2)
        Temporary ids that are the same object.
    """
    shared = max(task.margin, min(task.grid.block) // _SHARED)
    before = table.count
    links = [np.zeros((0, 2), np.int64)]
    for number in blocks:
        bounds = task.grid.bounds(number)
        region = task.grid.grown(bounds, shared + task.margin)
        mask = _mask(task, pieces, chosen, number)
        labels = task.label(task.read(region))
        if not task.method.makes_objects:
            part = within(bounds, region)
            units = label_equal(labels, task.diagonal)[0][part]
            task.add(bounds, np.where(_wanted(units, mask), labels[part], 0))
            yield 1
            continue
        own = labels[within(bounds, region)]
        own = np.where(_wanted(own, mask) & (task.stored(bounds) == 0), own, 0)
        runs = find_runs(own)
        new = table.add(runs, *runs.firsts(), bounds)
        task.add(bounds, new[own])
        # Labels that are in the strip only have no id.
        new = np.append(new, np.zeros(int(labels.max(initial=0)) + 1 - len(new), np.int64))
        strip = task.grid.grown(bounds, shared)
        for other, part in task.grid.overlapping(strip):
            if other < number:
                theirs = task.stored(part)
                links.append(_matches(new[labels[within(part, region)]], theirs, before))
        yield 1
    return np.concatenate(links)


def _mask(
    task: BlockTask, pieces: PieceMap, chosen: NDArray[np.bool_], number: int
) -> NDArray[np.bool_]:
    """Return where in a block the chosen pieces are."""
    found = task.find(number)  # the same numbers as when the map was made
    base = pieces.bases[number]
    member = chosen[pieces.piece_of[base : base + len(found.values)]]
    mask: NDArray[np.bool_] = np.append(False, member)[found.open]
    return mask


def _wanted(units: NDArray[np.integer], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return where the labels are that have a pixel in the mask."""
    wanted = np.zeros(int(units.max(initial=0)) + 1, np.bool_)
    wanted[units[mask]] = True
    wanted[0] = False
    where: NDArray[np.bool_] = wanted[units]
    return where


def _matches(
    mine: NDArray[np.int64], theirs: NDArray[np.integer], before: int
) -> NDArray[np.int64]:
    """Return the pairs of ids (pair, 2) that share most pixels with each other.

    ``theirs`` up to ``before`` were not made in parts, and match nothing.
    """
    both = (mine > 0) & (theirs > before)
    every = np.stack([mine[both], theirs[both].astype(np.int64)], axis=1)
    pairs, counts = np.unique(every, axis=0, return_counts=True)
    pairs = pairs[np.argsort(-counts, kind="stable")]
    best = np.ones(len(pairs), np.bool_)
    for side in (0, 1):
        first = np.zeros(len(pairs), np.bool_)
        first[np.unique(pairs[:, side], return_index=True)[1]] = True
        best &= first
    return pairs[best]


def warning_of_objects(task: BlockTask, pieces: int, objects: int) -> str:
    """Say that objects were made in parts."""
    return (
        f"{pieces:,} connected area(s) of foreground did not fit into {task.limit:,} pixels and "
        f"were looked at in overlapping parts: {objects:,} object(s) were made in parts there "
        "and may differ from those of the whole image. A higher threshold, or a higher limit, "
        "avoids it."
    )


def warning_of_classes(task: BlockTask, pieces: int) -> str:
    """Say that a mask was made in parts."""
    return (
        f"{pieces:,} connected area(s) of foreground did not fit into {task.limit:,} pixels and "
        "were looked at in parts: holes that span several blocks were not filled there, and "
        "small bits at the parts' edges may be missing. A higher limit avoids it."
    )
