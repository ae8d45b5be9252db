"""Small repairs of masks and labels, shared by the objects methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


# NumPy holds the interpreter, and with it the window, until all it was given is counted.
_COUNTED_AT_ONCE = 2**22


def pixels_of(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many pixels each label has, 0 included; axes (label,)."""
    flat = labels.ravel()
    pixels = np.zeros(int(flat.max(initial=0)) + 1, np.int64)
    for part in parts_at_once(flat.size):
        found = np.bincount(flat[part])
        pixels[: len(found)] += found
    return pixels


def parts_at_once(size: int) -> Iterator[slice]:
    """Yield parts of an array of one axis that are counted in a moment."""
    for start in range(0, size, _COUNTED_AT_ONCE):
        yield slice(start, start + _COUNTED_AT_ONCE)


def structure(ndim: int, diagonal: bool) -> NDArray[np.bool_]:
    """Return the neighbourhood of a pixel: its faces, or its corners too."""
    connectivity = ndim if diagonal else 1
    return np.asarray(ndimage.generate_binary_structure(ndim, connectivity), dtype=np.bool_)


def connected(mask: NDArray[np.bool_], diagonal: bool = False) -> tuple[NDArray[np.int32], int]:
    """Give each connected component of a mask a number.

    Parameters
    ----------
    mask : array of bool, axes ([Z,] Y, X)
    diagonal : bool
        Whether pixels that touch only at a corner (or edge, in 3D) belong together.

    Returns
    -------
    labels : array of int32, same shape
        1..count in scan order; 0 is background.
    count : int
    """
    labels = np.empty(mask.shape, np.int32)
    count = ndimage.label(mask, structure(mask.ndim, diagonal), output=labels)
    return labels, int(count)


def drop_small(labels: NDArray[Any], min_size: int) -> NDArray[Any]:
    """Set objects of fewer than ``min_size`` pixels to background.

    Parameters
    ----------
    labels : array of int, any axes
        Not much larger ids than there are pixels.
    min_size : int
        In pixels (voxels in 3D). 0 and 1 keep everything.
    """
    if min_size <= 1:
        return labels
    sizes = pixels_of(labels)
    keep = np.arange(len(sizes), dtype=labels.dtype)
    keep[sizes < min_size] = 0
    kept: NDArray[Any] = keep[labels]
    return kept


def largest_piece(labels: NDArray[Any]) -> NDArray[Any]:
    """Set all objects but the largest one to background; the first in a scan wins a tie.

    Parameters
    ----------
    labels : array of int, any axes
        Numbered in scan order; not much larger ids than there are pixels.
    """
    sizes = pixels_of(labels)
    if len(sizes) <= 2:
        return labels
    sizes[0] = 0
    kept: NDArray[Any] = np.where(labels == sizes.argmax(), labels, np.zeros_like(labels))
    return kept


def fill_label_holes(labels: NDArray[Any]) -> NDArray[Any]:
    """Fill background that one single object encloses.

    A gap between several touching objects is no hole and stays, as does
    whatever reaches the border of the image.

    Parameters
    ----------
    labels : array of int, axes ([Z,] Y, X)

    Returns
    -------
    array
        Same shape and dtype; the input itself where there is no hole.
    """
    gaps, count = connected(labels == 0)
    if count == 0:
        return labels
    highest = np.iinfo(labels.dtype).max
    low = np.full(count + 1, highest, labels.dtype)
    high = np.zeros(count + 1, labels.dtype)
    for axis in range(labels.ndim):
        if labels.shape[axis] == 1:
            continue  # a single plane: its neighbours are in the other axes
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        for inner, outer in ((before, after), (after, before)):
            edge = (gaps[inner] > 0) & (labels[outer] > 0)
            gap, owner = gaps[inner][edge], labels[outer][edge]
            np.minimum.at(low, gap, owner)
            np.maximum.at(high, gap, owner)
        low[np.take(gaps, [0, -1], axis=axis)] = 0  # open at the border
    holes = (low == high) & (high > 0)
    holes[0] = False
    if not holes.any():
        return labels
    high[~holes] = 0
    return np.where(labels == 0, high[gaps], labels)


def scan_order(labels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Renumber labels 1..n without gaps, in the order in which a scan meets them.

    Parameters
    ----------
    labels : array of int, any axes
        0 is background; ids not much larger than there are pixels.

    Returns
    -------
    labels : array of int64 or int32, same shape
    count : int
    """
    flat = labels.ravel()
    if flat.size == 0:
        return labels.astype(np.int32), 0
    # Where a run of equal labels begins: far fewer places than pixels.
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    values = flat[starts].astype(np.int64)
    first = np.full(int(values.max()) + 1, -1, np.int64)
    first[values[::-1]] = starts[::-1]  # the last one written is the first in the scan
    first[0] = -1
    ids = np.flatnonzero(first >= 0)
    ids = ids[np.argsort(first[ids])]
    dense = np.zeros(len(first), np.int32 if len(first) <= np.iinfo(np.int32).max else np.int64)
    dense[ids] = np.arange(1, len(ids) + 1)
    return dense[labels], len(ids)
