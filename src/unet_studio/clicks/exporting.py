"""Clicked objects as annotations, from which Refine learns.

Everything here goes with the boxes of the objects, never with the size of their image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.axes import CANONICAL
from unet_studio.clicks.commit import Edit, Region, indices_in
from unet_studio.training.annotations import BACKGROUND, UNKNOWN, Annotations, take_pixels


def annotations_of(labels: Any, axes: str, edits: Sequence[Edit], ring: int = 2) -> Annotations:
    """Return objects that were committed as annotations in object mode.

    Each object has a number of its own, and a thin ring around it on each plane is
    background, where the labels hold no other object: it says where the object ends.
    Where an object touches one that was not committed, that ring is wrong by its width;
    commit such neighbours, too.

    Parameters
    ----------
    labels : array of int
        What was committed to, as it is now.
    axes : str
        Of the labels.
    edits : sequence of Edit
        :attr:`ClickSession.edits`; objects erased since are left out.
    ring : int
        Width in pixels; 0 for none.
    """
    order = "".join(a for a in CANONICAL if a in axes)
    shape = tuple(int(labels.shape[axes.index(a)]) for a in order)
    flat, values = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for box, known in _known_boxes(labels, edits, ring):
        there = known != UNKNOWN
        places = indices_in(box, there)
        flat.append(np.ravel_multi_index([places[axes.index(a)] for a in order], shape))
        values.append(known[there])
    # Boxes of neighbours overlap; where they do, they say the same.
    once, first = np.unique(np.concatenate(flat), return_index=True)
    where = np.stack(np.unravel_index(once, shape), axis=1)
    return take_pixels(where, np.concatenate(values)[first], shape, order, "objects")


def write_annotations(
    into: NDArray[np.int32], labels: Any, edits: Sequence[Edit], ring: int = 2
) -> int:
    """Write what :func:`annotations_of` returns into an array of zeros, box by box.

    Parameters
    ----------
    into : array of int32
        Shape and axes of the labels.
    labels, edits, ring
        As for :func:`annotations_of`.

    Returns
    -------
    int
        Number of objects.
    """
    highest = BACKGROUND
    for box, known in _known_boxes(labels, edits, ring):
        np.copyto(into[box], known, where=known != UNKNOWN)
        highest = max(highest, int(known.max()))
    return highest - BACKGROUND


def _known_boxes(
    labels: Any, edits: Sequence[Edit], ring: int
) -> Iterator[tuple[Region, NDArray[np.int32]]]:
    """Yield a box of the labels for each plane of an object, and what is known in it."""
    numbers: dict[int, int] = {}
    for change, number in _committed(edits):
        box = _widened(change.region, labels.shape, ring)
        block = np.asarray(labels[box])
        own = block == number
        if not own.any():
            continue
        known = np.full(own.shape, UNKNOWN, np.int32)
        if ring > 0:
            known[ndimage.binary_dilation(own, iterations=ring) & (block == 0)] = BACKGROUND
        known[own] = numbers.setdefault(number, BACKGROUND + 1 + len(numbers))
        yield box, known


def _committed(edits: Sequence[Edit]) -> list[tuple[Any, int]]:
    return [(change, e.id) for e in edits if e.what == "commit" for change in e.changes]


def _widened(region: Region, shape: tuple[int, ...], ring: int) -> Region:
    return tuple(
        slice(max(0, part.start - ring), min(length, part.stop + ring))
        if isinstance(part, slice)
        else part
        for part, length in zip(region, shape, strict=True)
    )
