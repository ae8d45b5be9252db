"""Which objects of two label images overlap, and by how much: a sparse table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Up to so many times the number of pixels, ids are counted in a table.
# Beyond, they are too sparse and are sorted instead.
_DENSE_FACTOR = 4


def compact(labels: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the ids that occur, and the labels renumbered 1..n in that order.

    Parameters
    ----------
    labels : array of int, any axes, no negative values
        0 is background. Ids may be sparse and as large as the dtype allows.

    Returns
    -------
    ids : array of int64, axes (n,)
        Ascending, without 0.
    dense : array of int, same shape
        The labels themselves if they are dense already.
    """
    if labels.size == 0:
        return np.zeros(0, np.int64), labels
    if int(labels.max()) <= _DENSE_FACTOR * labels.size + 1024:
        present = np.bincount(labels.ravel().astype(np.intp, copy=False)) > 0
        present[0] = False
        ids = np.flatnonzero(present).astype(np.int64)
        if len(ids) == len(present) - 1:
            return ids, labels
        lookup = np.zeros(len(present), np.int64)
        lookup[ids] = np.arange(1, len(ids) + 1)
        return ids, lookup[labels]
    values, dense = np.unique(labels, return_inverse=True)
    dense = dense.reshape(labels.shape)
    if values[0] == 0:
        return values[1:].astype(np.int64), dense
    return values.astype(np.int64), dense + 1


@dataclass(frozen=True)
class Overlaps:
    """Sizes and common pixels of the objects of two label images.

    Attributes
    ----------
    found_ids, truth_ids : array of int64
        Ids of the objects, ascending.
    found_sizes, truth_sizes : array of int64
        Their sizes in pixels, in the same order.
    found_index, truth_index : array of int64
        Positions in the above of each pair of objects that share a pixel.
    common : array of int64
        Number of pixels that each pair shares.
    """

    found_ids: NDArray[np.int64]
    truth_ids: NDArray[np.int64]
    found_sizes: NDArray[np.int64]
    truth_sizes: NDArray[np.int64]
    found_index: NDArray[np.int64]
    truth_index: NDArray[np.int64]
    common: NDArray[np.int64]

    @property
    def iou(self) -> NDArray[np.float64]:
        """Intersection over union of each pair, range (0, 1]."""
        union = (
            self.found_sizes[self.found_index] + self.truth_sizes[self.truth_index] - self.common
        )
        return self.common / union


def overlaps(labels: NDArray[Any], truth: NDArray[Any]) -> Overlaps:
    """Count the pixels that the objects of two label images share.

    Parameters
    ----------
    labels, truth : array of int, same shape, no negative values
        0 is background.
    """
    found_ids, found = compact(labels)
    truth_ids, real = compact(truth)
    return _table(found_ids, truth_ids, [_pairs(found, real, len(truth_ids))])


def overlaps_of_parts(
    parts: Iterable[tuple[NDArray[Any], NDArray[Any]]], found: int, truth: int
) -> Overlaps:
    """Count the same over two label images that are looked at part by part.

    Parameters
    ----------
    parts : iterable of pairs of arrays of int, each pair of one shape
        Together the two images, labelled 1..``found`` and 1..``truth`` without gaps.
    found, truth : int
        Number of objects of either.
    """
    counted = [_pairs(one, other, truth) for one, other in parts]
    every = [np.arange(1, count + 1, dtype=np.int64) for count in (found, truth)]
    return _table(every[0], every[1], counted)


def _pairs(
    found: NDArray[Any], real: NDArray[Any], width: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each pair of dense labels as one number, and how often it is there."""
    pairs = found.ravel().astype(np.int64) * (width + 1) + real.ravel().astype(np.int64)
    # Neighbouring pixels mostly are the same pair: sort runs rather than pixels.
    starts = np.concatenate([[0], np.flatnonzero(pairs[1:] != pairs[:-1]) + 1])[: pairs.size]
    return _added(pairs[starts], np.diff(np.append(starts, pairs.size)))


def _added(
    keys: NDArray[np.int64], amounts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each key once, ascending, with the sum of its amounts."""
    values, inverse = np.unique(keys, return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, inverse.ravel(), amounts)
    return values, counts


def _table(
    found_ids: NDArray[np.int64],
    truth_ids: NDArray[np.int64],
    counted: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> Overlaps:
    """Put together what :func:`_pairs` has counted of each part."""
    if len(counted) == 1:
        values, counts = counted[0]
    else:
        none = [np.zeros(0, np.int64)]
        keys = np.concatenate(none + [k for k, _ in counted])
        values, counts = _added(keys, np.concatenate(none + [n for _, n in counted]))
    found_index, truth_index = np.divmod(values, len(truth_ids) + 1)
    both = (found_index > 0) & (truth_index > 0)

    def sizes(index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        total = np.zeros(count + 1, np.int64)
        np.add.at(total, index, counts)
        return total[1:]

    return Overlaps(
        found_ids,
        truth_ids,
        sizes(found_index, len(found_ids)),
        sizes(truth_index, len(truth_ids)),
        found_index[both] - 1,
        truth_index[both] - 1,
        counts[both],
    )
