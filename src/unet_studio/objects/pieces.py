"""Find the connected pieces of an array of any size, block by block.

Each block is labelled on its own. What it has in common with the blocks before it
is read off the faces of the blocks, so that no more than a block, some faces, and
a few numbers per piece that crosses a seam are in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from unet_studio.objects.cleaning import connected
from unet_studio.objects.grid import Grid, Region, face, origin


def label_equal(
    values: NDArray[Any], diagonal: bool
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Give each connected piece of pixels of the same value a number.

    Parameters
    ----------
    values : array of bool or small int, axes ([Z,] Y, X)
        False or 0 is background.

    Returns
    -------
    labels : array of int32, same shape
        1..n; 0 is background.
    value_of : array of int64, axes (n + 1,)
        The value of each piece; 0 for the background.
    """
    if values.dtype == np.bool_:
        labels, count = connected(values, diagonal)
        value_of = np.ones(count + 1, np.int64)
        value_of[0] = 0
        return labels, value_of
    labels = np.zeros(values.shape, np.int32)
    counts = [0]
    present = np.flatnonzero(np.bincount(values.ravel().astype(np.intp, copy=False))[1:]) + 1
    for value in present:
        pieces, count = connected(values == value, diagonal)
        labels += np.where(pieces > 0, pieces + np.int32(sum(counts)), np.int32(0))
        counts.append(count)
    return labels, np.append(0, np.repeat(present, counts[1:])).astype(np.int64)


def boxes_of(labels: NDArray[np.integer], count: int, region: Region) -> NDArray[np.int64]:
    """Return the bounding box of each label 1..count of a region.

    Returns
    -------
    array of int64, axes (label, axis, first pixel and the one after the last)
        In pixels of the whole array. Every label has to be there.
    """
    if count == 0:
        return np.zeros((0, labels.ndim, 2), np.int64)
    found = ndimage.find_objects(labels, max_label=count)
    edges = (edge for box in found for side in box for edge in (side.start, side.stop))
    boxes = np.fromiter(edges, np.int64, count * labels.ndim * 2).reshape(count, labels.ndim, 2)
    boxes += origin(region)[:, None]
    return boxes


def going_on(
    labels: NDArray[np.int32], count: int, region: Region, shape: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Return which labels touch a side of their region beyond which the array goes on.

    Returns
    -------
    array of bool, axes (count + 1,)
        False for 0, the background.
    """
    touch = np.zeros(count + 1, np.bool_)
    for axis, (side, length) in enumerate(zip(region, shape, strict=True)):
        if side.start > 0:
            touch[face(labels, axis, 0)] = True
        if side.stop < length:
            touch[face(labels, axis, -1)] = True
    touch[0] = False
    return touch


@dataclass(frozen=True)
class BlockPieces:
    """The pieces of one block.

    Attributes
    ----------
    open : array of int32, axes as the block
        Pieces 1..n that may go on in another block; 0 is anything else.
    values : array of int64, axes (n,)
        Value of each.
    boxes : array of int64, axes (n, axis, 2)
        Bounding box of each, in pixels of the whole array.
    closed : array of int64, axes (axis, 2), or None
        Bounding box of all the pieces that end in this block.
    """

    open: NDArray[np.int32]
    values: NDArray[np.int64]
    boxes: NDArray[np.int64]
    closed: NDArray[np.int64] | None

    @property
    def outline(self) -> Outline:
        """What other blocks have to know of this one."""
        # uint8 or uint16 mostly does, and a face of a large volume is large.
        kind = np.min_scalar_type(len(self.values))
        first, last = (
            tuple(face(self.open, axis, side).astype(kind) for axis in range(self.open.ndim))
            for side in (0, -1)
        )
        return Outline(self.open.shape, first, last, self.values, self.boxes, self.closed)


@dataclass(frozen=True)
class Outline:
    """The pieces of one block without its inside: small enough to be sent and kept.

    Attributes
    ----------
    shape : tuple of int
        Of the block.
    first, last : tuple of array of unsigned int
        Along each axis the first and the last plane of ``BlockPieces.open``.
    values, boxes, closed
        Those of :class:`BlockPieces`.
    """

    shape: tuple[int, ...]
    first: tuple[NDArray[np.unsignedinteger], ...]
    last: tuple[NDArray[np.unsignedinteger], ...]
    values: NDArray[np.int64]
    boxes: NDArray[np.int64]
    closed: NDArray[np.int64] | None


def block_pieces(values: NDArray[Any], bounds: Region, grid: Grid, diagonal: bool) -> BlockPieces:
    """Find the pieces of a block, given the values that :func:`label_equal` takes."""
    if not values.any():  # most of many a slide
        none = np.zeros(0, np.int64)
        empty = np.zeros(values.shape, np.int32)
        return BlockPieces(empty, none, boxes_of(empty, 0, bounds), None)
    labels, value_of = label_equal(values, diagonal)
    count = len(value_of) - 1
    crossing = going_on(labels, count, bounds, grid.shape)
    ids = np.flatnonzero(crossing)
    renumbered = np.zeros(count + 1, np.int32)
    renumbered[ids] = np.arange(1, len(ids) + 1)
    closed = None
    if count > len(ids):
        inner = np.append(False, ~crossing[1:])[labels].view(np.uint8)
        closed = boxes_of(inner, 1, bounds)[0]
    open_labels = renumbered[labels] if len(ids) else np.zeros_like(labels)
    return BlockPieces(open_labels, value_of[ids], boxes_of(open_labels, len(ids), bounds), closed)


@dataclass
class Seams:
    """Finds what pieces of a block touch those of the blocks before it.

    Blocks have to come in scan order. A pair of touching pixels in two blocks is
    looked at once: along the first axis on which the blocks differ. So along an axis
    the neighbouring plane is needed as far as the block on the axes before it, and
    one pixel further on the axes after it.
    """

    grid: Grid
    diagonal: bool
    _faces: list[dict[int, tuple[NDArray[Any], int]]] = field(init=False)

    def __post_init__(self) -> None:
        self._faces = [{} for _ in self.grid.shape]

    def pairs(self, number: int, outline: Outline, base: int) -> NDArray[np.int64]:
        """Return the pairs of pieces that touch across the seams to the blocks before.

        Parameters
        ----------
        number : int
            Of the block.
        outline : Outline
            Of its open pieces; ``base`` more is their number in the whole array.

        Returns
        -------
        array of int64, axes (pair, 2)
        """
        found = [np.zeros((0, 2), np.int64)]
        for axis, steps in enumerate(self.grid.steps):
            first = outline.first[axis]
            if self.grid.index(number)[axis] > 0 and first.any():
                before = self._before(number, axis, outline.shape)
                found.append(self._touching(first, before, base))
            self._faces[axis][number] = (outline.last[axis], base)
            # No later block is further away than this one from the next.
            self._faces[axis].pop(number - steps - sum(self.grid.steps[axis + 1 :]), None)
        return np.concatenate(found)

    def _before(self, number: int, axis: int, shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return the plane before a block along an axis, one pixel larger on all sides."""
        index = self.grid.index(number)
        others = [n for a, n in enumerate(shape) if a != axis]
        plane = np.zeros([n + 2 for n in others], np.int64)
        aside = (-1, 0, 1) if self.diagonal else (0,)
        later = len(shape) - axis - 1
        for shift in itertools.product(*[(0,)] * axis, *[aside] * later):
            # `shift` has no entry for the axis itself.
            neighbour = self.grid.number(
                tuple(
                    i + s for i, s in zip(index, (*shift[:axis], -1, *shift[axis:]), strict=True)
                )
            )
            if neighbour is None:
                continue
            last, base = self._faces[axis][neighbour]
            source = tuple({-1: slice(-1, None), 0: slice(None), 1: slice(0, 1)}[s] for s in shift)
            target = tuple(
                {-1: slice(0, 1), 0: slice(1, -1), 1: slice(-1, None)}[s] for s in shift
            )
            part = last[source].astype(np.int64)
            plane[target] = np.where(part > 0, part + base, 0)
        return plane

    def _touching(
        self, own: NDArray[np.unsignedinteger], before: NDArray[np.int64], base: int
    ) -> NDArray[np.int64]:
        found = []
        for shift in itertools.product((0, 1, 2) if self.diagonal else (1,), repeat=own.ndim):
            other = before[tuple(slice(s, s + n) for s, n in zip(shift, own.shape, strict=True))]
            both = (own > 0) & (other > 0)
            pairs = np.stack([own[both].astype(np.int64) + base, other[both]], axis=1)
            # Neighbouring pixels mostly are the same pair: sort runs, not pixels.
            new = np.ones(len(pairs), np.bool_)
            new[1:] = (pairs[1:] != pairs[:-1]).any(axis=1)
            found.append(pairs[new])
        return np.unique(np.concatenate(found), axis=0)


def unite(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Join numbers 0..count-1 that are in a pair, directly or by way of others.

    Parameters
    ----------
    pairs : array of int64, axes (pair, 2)

    Returns
    -------
    array of int64, axes (count,)
        The group of each: 0..n without gaps.
    """
    if count == 0:
        return np.zeros(0, np.int64)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (count, count))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


@dataclass(frozen=True)
class PieceMap:
    """Where the pieces of an array are.

    A piece is at home in the block in which its bounding box begins.

    Attributes
    ----------
    boxes : array of int64, axes (piece, axis, 2)
        Bounding boxes of the pieces that cross a seam, by home.
    homes : array of int64, axes (piece,)
        Number of the home block, ascending.
    closed : dict of int to array of int64, axes (axis, 2)
        By block: the box of all pieces that do not leave it.
    bases : array of int64, axes (block,)
        What turns the numbers of a block's open pieces into positions in ``piece_of``,
        with 1 for the first.
    piece_of : array of int64
        Row in ``boxes`` of the piece that an open piece of a block is a part of.
    """

    boxes: NDArray[np.int64]
    homes: NDArray[np.int64]
    closed: dict[int, NDArray[np.int64]]
    bases: NDArray[np.int64]
    piece_of: NDArray[np.int64]

    def at(self, number: int) -> slice:
        """Return the rows of the pieces that cross a seam and are at home in a block."""
        low, high = np.searchsorted(self.homes, [number, number + 1])
        return slice(int(low), int(high))


def map_pieces(
    grid: Grid, diagonal: bool, find: Callable[[int], Outline]
) -> Generator[int, None, PieceMap]:
    """Find the pieces of the whole array.

    Parameters
    ----------
    find : callable
        Returns the outline of a block's pieces, given its number. Called once for each,
        in scan order.

    Yields
    ------
    int
        1 after each block.
    """
    seams = Seams(grid, diagonal)
    bases = np.zeros(grid.size, np.int64)
    closed: dict[int, NDArray[np.int64]] = {}
    values = [np.zeros(0, np.int64)]
    boxes = [np.zeros((0, len(grid.shape), 2), np.int64)]
    pairs = [np.zeros((0, 2), np.int64)]
    total = 0
    for number in range(grid.size):
        found = find(number)
        bases[number] = total
        pairs.append(seams.pairs(number, found, total))
        values.append(found.values)
        boxes.append(found.boxes)
        if found.closed is not None:
            closed[number] = found.closed
        total += len(found.values)
        yield 1
    touching = np.concatenate(pairs) - 1
    value = np.concatenate(values)
    same = value[touching[:, 0]] == value[touching[:, 1]]
    group_of = unite(total, touching[same])
    united = _united_boxes(np.concatenate(boxes), group_of)
    homes = grid.homes(united)
    order = np.argsort(homes, kind="stable")
    row = np.empty_like(order)
    row[order] = np.arange(len(order))
    return PieceMap(united[order], homes[order], closed, bases, row[group_of])


def _united_boxes(boxes: NDArray[np.int64], group_of: NDArray[np.int64]) -> NDArray[np.int64]:
    united = np.empty((int(group_of.max(initial=-1)) + 1, *boxes.shape[1:]), np.int64)
    united[:, :, 0] = np.iinfo(np.int64).max
    united[:, :, 1] = 0
    np.minimum.at(united[:, :, 0], group_of, boxes[:, :, 0])
    np.maximum.at(united[:, :, 1], group_of, boxes[:, :, 1])
    return united
