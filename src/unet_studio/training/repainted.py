"""Annotations of labels that are being painted on: what may have changed is read again.

A stroke on a large image is small. The labels are cut into tiles, whoever watches the
painting marks the tiles that it touches, and only those are looked at. All axes here are
in the order of the annotations, ``[T][Z]YX``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import AnnotationError
from unet_studio.training.annotations import UNKNOWN, Annotations, whole_numbers

# Wide, as rows lie in memory; a tile is read in some ten microseconds.
_EDGES = {"Y": 32, "X": 2048}

Marks = NDArray[np.bool_]  # one per tile


@dataclass(frozen=True)
class Tiles:
    """The tiles of an array; along axes other than Y and X each is one pixel long.

    Attributes
    ----------
    shape : tuple of int
        Of the array.
    axes : str
        One letter per axis.
    """

    shape: tuple[int, ...]
    axes: str

    @property
    def edges(self) -> tuple[int, ...]:
        """Pixels of a tile along each axis; those at the end are smaller."""
        return tuple(_EDGES.get(axis, 1) for axis in self.axes)

    def marks(self, every: bool = False) -> Marks:
        """Return marks on none of the tiles, or on every one."""
        counts = [-(-n // edge) for n, edge in zip(self.shape, self.edges, strict=True)]
        return np.full(counts, every)

    def mark(self, marks: Marks, start: Sequence[int], stop: Sequence[int]) -> None:
        """Mark the tiles that a box touches.

        Parameters
        ----------
        marks : array of bool
            Changed in place.
        start, stop : sequence of int
            First pixel, and first pixel beyond, along each axis; what is outside counts not.
        """
        touched = tuple(
            slice(max(0, low) // edge, max(0, -(-high // edge)))
            for low, high, edge in zip(start, stop, self.edges, strict=True)
        )
        marks[touched] = True

    def reach(self, marks: Marks) -> tuple[int, int]:
        """Return the first pixel along the first axis that is marked, and the first beyond."""
        found = np.flatnonzero(marks.reshape(len(marks), -1).any(axis=1))
        edge = self.edges[0]
        return (int(found[0]) * edge, int(found[-1] + 1) * edge) if len(found) else (0, 0)

    def regions(self, marks: Marks) -> Iterator[tuple[slice, ...]]:
        """Yield the box of each tile that is marked, in C order; of all of them, whole rows."""
        if marks.all():  # the pixels are in order then, and need not be sorted
            marks = marks[..., :1]
            edges = (*self.edges[:-1], self.shape[-1])
        else:
            edges = self.edges
        for tile in np.argwhere(marks).tolist():
            starts = [index * edge for index, edge in zip(tile, edges, strict=True)]
            yield tuple(
                slice(start, min(start + edge, n))
                for start, edge, n in zip(starts, edges, self.shape, strict=True)
            )

    def marked(self, marks: Marks, places: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which places, axes (places, dimensions), lie on tiles that are marked."""
        if not marks.any():
            return np.zeros(len(places), bool)
        found: NDArray[np.bool_] = marks[
            tuple(places[:, i] // edge for i, edge in enumerate(self.edges))
        ]
        return found


def repainted(
    known: Annotations,
    labels: NDArray[np.integer],
    tiles: Tiles,
    marks: Marks,
    predicted: NDArray[np.integer] | None = None,
) -> Annotations:
    """Return annotations in which the tiles that are marked were read again.

    Parameters
    ----------
    known : Annotations
        As they were read before.
    labels : array of int
        What is painted by now; 0 is not known. May be painted on meanwhile.
    tiles : Tiles
        Of the labels.
    marks : array of bool
    predicted : array of int, optional
        What the labels were before they were corrected: what differs is known, and 0 is
        background.

    Returns
    -------
    Annotations
        The very object that was passed if nothing has changed.

    Raises
    ------
    AnnotationError
        If the labels hold what annotations can not, or are of another shape than before.
    """
    if predicted is not None and predicted.shape != labels.shape:
        raise AnnotationError(
            f"The corrected labels have the shape {labels.shape}, the predicted ones "
            f"{predicted.shape}. Correct a copy of the prediction itself."
        )
    fresh, what = _painted_in(labels, tiles.regions(marks), predicted)
    flat = _flat(fresh, tiles.shape)
    if not (flat[1:] > flat[:-1]).all():
        order = np.argsort(flat, kind="stable")
        fresh, what, flat = fresh[order], what[order], flat[order]
    # Sorted by the first axis: what lies far from the marks is not looked at.
    rows = slice(*np.searchsorted(known.places[:, 0], tiles.reach(marks)))
    near = known.places[rows]
    said: NDArray[np.integer] = known.values[rows]
    again = tiles.marked(marks, near)
    if np.array_equal(near[again], fresh) and np.array_equal(said[again], what):
        return known
    kept, said = near[~again], said[~again]
    if len(kept):
        at = np.searchsorted(_flat(kept, tiles.shape), flat)
        near, said = np.insert(kept, at, fresh, axis=0), np.insert(said, at, what)
    else:
        near, said = fresh, what
    before, after = slice(0, rows.start), slice(rows.stop, None)
    return known.with_pixels(
        np.concatenate([known.places[before], near, known.places[after]]),
        np.concatenate([known.values[before], said, known.values[after]]),
    )


def _painted_in(
    labels: NDArray[np.integer],
    regions: Iterable[tuple[slice, ...]],
    predicted: NDArray[np.integer] | None,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return places and values of what is painted in some parts, one part after the other."""
    places, values = [np.zeros((0, labels.ndim), np.int32)], [np.zeros(0, np.int64)]
    for region in regions:
        block = np.array(labels[region])  # a copy: it stays as it is from here on
        there = block != (UNKNOWN if predicted is None else predicted[region])
        if there.any():  # most hold nothing, and looking for pixels takes ten times as long
            inside = np.stack(np.unravel_index(np.flatnonzero(there), there.shape), axis=1)
            corner = np.array([part.start for part in region], np.int32)
            places.append(inside.astype(np.int32) + corner)
            values.append(whole_numbers(block[there]) + (predicted is not None))
    return np.concatenate(places), np.concatenate(values)


def _flat(places: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Return positions as single numbers, in C order."""
    found: NDArray[np.intp] = np.ravel_multi_index(tuple(places.T), shape)
    return found
