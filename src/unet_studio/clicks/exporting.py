"""Clicked objects as annotations, from which Refine learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.axes import CANONICAL
from unet_studio.clicks.commit import Edit
from unet_studio.training.annotations import BACKGROUND, Annotations, take_pixels


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
    known: dict[int, int] = {}
    numbers: dict[int, int] = {}
    for change, number in _committed(edits):
        box = _widened(change.region, labels.shape, ring)
        block = np.asarray(labels[box])
        own = block == number
        if not own.any():
            continue
        value = numbers.setdefault(number, BACKGROUND + 1 + len(numbers))
        _put(known, own, value, box, axes, order, shape)
        if ring > 0:
            around = ndimage.binary_dilation(own, iterations=ring) & (block == 0)
            _put(known, around, BACKGROUND, box, axes, order, shape)
    flat = np.array(sorted(known), np.int64)
    places = np.stack(np.unravel_index(flat, shape), axis=1)
    values = np.array([known[int(i)] for i in flat], np.int64)
    return take_pixels(places, values, shape, order, "objects")


def _committed(edits: Sequence[Edit]) -> list[tuple[Any, int]]:
    return [(change, e.id) for e in edits if e.what == "commit" for change in e.changes]


def _widened(
    region: tuple[slice | int, ...], shape: tuple[int, ...], ring: int
) -> tuple[slice | int, ...]:
    return tuple(
        slice(max(0, part.start - ring), min(length, part.stop + ring))
        if isinstance(part, slice)
        else part
        for part, length in zip(region, shape, strict=True)
    )


def _put(
    known: dict[int, int],
    mask: NDArray[np.bool_],
    value: int,
    box: tuple[slice | int, ...],
    axes: str,
    order: str,
    shape: tuple[int, ...],
) -> None:
    """Note the pixels of a mask, as positions in the canonical order of axes."""
    inner = iter(np.nonzero(mask))
    count = int(mask.sum())
    at = {
        axis: next(inner) + part.start if isinstance(part, slice) else np.full(count, part)
        for axis, part in zip(axes, box, strict=True)
    }
    flat = np.ravel_multi_index([at[a] for a in order], shape)
    for index in flat.tolist():
        if value != BACKGROUND or index not in known:
            known[index] = value
