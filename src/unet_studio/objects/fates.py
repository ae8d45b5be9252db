"""Which object of a frame has been which of the frame before: links, splits and merges.

Objects are compared by the pixels they share. Which object continues which is
one linear assignment problem per pair of frames, as in Jaqaman et al. 2008
(Nature Methods 5:695), with the intersection over union as the gain of a link,
and nothing gained by an object that is left alone. A greedy choice of the largest
overlap would do as well where objects hardly move; where crowded objects move by
about half their size, one early wrong link forces the next.

What is left over may be a daughter of an object that was linked to another one,
or may have merged with another one: see :func:`_companions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from unet_studio.objects.contingency import Overlaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

# Two parts of one object differ less in size than this. What is smaller is taken
# for a speck of the segmentation, which would end the track of whatever it lies on.
_LARGEST_RATIO = 4.0
# Together they are not much larger than what they were or become: cells grow from
# frame to frame, but do not double.
_LARGEST_TOTAL = 1.5


@dataclass(frozen=True)
class Fates:
    """How two frames belong together; positions in the tables of either, -1 for none.

    ``continues`` and ``mother`` (axis: new object) are positions of known objects,
    ``merged`` (axis: known object) of new ones. ``sizes`` are those of the new objects.
    """

    continues: Ints
    mother: Ints
    merged: Ints
    sizes: Ints


def decide_fates(table: Overlaps, min_overlap: float) -> Fates:
    """Decide what each object of a new frame has been before.

    Parameters
    ----------
    table : Overlaps
        Of the known objects (``found``) and the new ones (``truth``).
    min_overlap : float
        Part of the smaller of two objects that they have to share, range [0, 1].
    """
    count = len(table.truth_ids)
    continues, mother = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    merged = np.full(len(table.found_ids), -1, np.int64)
    before, after = table.found_index, table.truth_index
    smaller = np.minimum(table.found_sizes[before], table.truth_sizes[after])
    near = table.common >= min_overlap * smaller
    linked = _assign(table, near)
    continues[after[linked]] = before[linked]
    parts = _companions(before, after, table, near, linked)
    mother[after[parts]] = before[parts]
    split = np.isin(continues, before[parts]) & (continues >= 0)
    mother[split] = continues[split]
    joined = _companions(after, before, _reversed(table), near, linked)
    merged[before[joined]] = after[joined]
    continues[split] = -1
    return Fates(continues, mother, merged, table.truth_sizes)


def _reversed(table: Overlaps) -> Overlaps:
    return Overlaps(
        table.truth_ids, table.found_ids, table.truth_sizes, table.found_sizes,
        table.truth_index, table.found_index, table.common,
    )  # fmt: skip


def _assign(table: Overlaps, near: Mask) -> Mask:
    """Choose pairs, each object in one at most, of the greatest summed IoU.

    A column of its own for each row lets an object stay alone, so that a full
    matching always exists, and the problem stays as sparse as the overlaps are.

    Parameters
    ----------
    table : Overlaps
    near : array of bool, axes (pair)
        The pairs to choose from.
    """
    chosen = np.zeros(len(near), np.bool_)
    pairs = np.flatnonzero(near)
    if not len(pairs):
        return chosen
    rows, place = np.unique(table.found_index[pairs], return_inverse=True)
    width = len(table.truth_ids)
    alone = np.arange(len(rows))
    # Sparse weights must not be 0; one more for every row changes no decision.
    gain = np.concatenate([1 + table.iou[pairs], np.ones(len(rows))])
    row = np.concatenate([place, alone]).astype(np.int32)
    column = np.concatenate([table.truth_index[pairs], width + alone]).astype(np.int32)
    matrix = csr_array((gain, (row, column)), shape=(len(rows), width + len(rows)))
    best = np.empty(len(rows), np.int64)
    matched, best_column = min_weight_full_bipartite_matching(matrix, maximize=True)
    best[matched] = best_column
    chosen[pairs] = best[place] == table.truth_index[pairs]
    return chosen


def _companions(whole: Ints, part: Ints, table: Overlaps, near: Mask, linked: Mask) -> Mask:
    """Find the left-over objects that, with one already linked, make up an object.

    Forwards in time these are daughters, backwards objects that merged. One is
    accepted if the parts together match the whole better (by IoU) than without it,
    and are of a size to make it up. In a crowd that moves, neighbours come to lie
    halfway on the place of an object; they are too large to be parts of it.

    Parameters
    ----------
    whole, part : array of int64, axes (pair)
        Positions in the tables of ``table.found_sizes`` and ``table.truth_sizes``.
    table : Overlaps
    near, linked : array of bool, axes (pair)
        Pairs that overlap enough, and those that were linked.

    Returns
    -------
    array of bool, axes (pair)
    """
    companions = np.zeros(len(near), np.bool_)
    taken = np.zeros(len(table.truth_sizes), np.bool_)
    taken[part[linked]] = True
    # Of each whole: pixels shared with its parts so far, and the size of all parts.
    shared, total, first = (np.zeros(len(table.found_sizes), np.int64) for _ in range(3))
    shared[whole[linked]] = table.common[linked]
    total[whole[linked]] = first[whole[linked]] = table.truth_sizes[part[linked]]
    left = np.flatnonzero(near & ~taken[part])
    for pair in left[np.argsort(-table.common[left], kind="stable")]:
        w, p, common = whole[pair], part[pair], table.common[pair]
        size, area = table.truth_sizes[p], table.found_sizes[w]
        if taken[p] or max(size, first[w]) > _LARGEST_RATIO * min(size, first[w]):
            continue
        taken[p] = True  # it lies mostly there; the others are only neighbours
        if total[w] + size > _LARGEST_TOTAL * area:
            continue
        now = shared[w] / (area + total[w] - shared[w])
        joint = (shared[w] + common) / (area + total[w] + size - shared[w] - common)
        if joint > now:
            companions[pair] = True
            shared[w] += common
            total[w] += size
    return companions
