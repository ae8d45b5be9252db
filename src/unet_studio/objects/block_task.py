"""What every step of labelling block by block works with: read, label, write, count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from unet_studio.errors import ImageError, OutputError, storage_errors
from unet_studio.models.card import Representation
from unet_studio.objects.grid import Grid, Region, origin, within
from unet_studio.objects.methods import Method, Support
from unet_studio.objects.pieces import BlockPieces, Outline, block_pieces

# First pixel, size, sum of the coordinates and box of objects.
Columns = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass
class BlockTask:
    """One frame to label, and how.

    Attributes
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
        Numpy, zarr or alike; only sliced.
    output : array of int, axes ([Z,] Y, X)
        Numpy, zarr or alike; sliced and assigned to. All 0 at the start.
    method, options, representation
        As for :func:`unet_studio.objects.run.run_objects`.
    support : Support
        That of the method.
    grid : Grid
    limit : int
        Most pixels that a piece is looked at in at once, context included.
    check : callable
        Called before each step; may raise to stop.
    touched : array of bool, axes (block,)
        Which blocks of the output have been written to.
    highest : int
        Highest label so far.
    """

    probabilities: Any
    output: Any
    method: Method
    options: BaseModel
    representation: Representation
    support: Support
    grid: Grid
    limit: int
    check: Callable[[], None]
    touched: NDArray[np.bool_]
    highest: int = 0

    @property
    def margin(self) -> int:
        """Context around a piece, in pixels."""
        # Without a pixel of it, a hole at the edge of the region would be taken for open.
        return max(1, self.support.margin(self.options))

    @property
    def diagonal(self) -> bool:
        """Whether pixels that touch only at a corner belong to the same piece."""
        return self.support.diagonal(self.options)

    def read(self, region: Region) -> NDArray[np.floating]:
        """Read the probabilities of a region, axes (C, [Z,] Y, X).

        Raises
        ------
        ImageError
            If the array can not be read there.
        """
        with storage_errors(
            lambda why: ImageError(
                f"The probabilities could not be read at {_name(region)}: {why}. Predict this "
                "image again."
            )
        ):
            return np.asarray(self.probabilities[(slice(None), *region)])

    def values(self, probabilities: NDArray[np.floating]) -> NDArray[Any]:
        """Return what tells pieces apart; see :class:`Support`."""
        return self.support.pieces(probabilities, self.options, self.representation)

    def label(self, probabilities: NDArray[np.floating]) -> NDArray[np.integer]:
        """Run the method."""
        return self.method.function(probabilities, self.options, self.representation)

    def find(self, number: int) -> BlockPieces:
        """Find the pieces of a block."""
        self.check()
        bounds = self.grid.bounds(number)
        return block_pieces(self.values(self.read(bounds)), bounds, self.grid, self.diagonal)

    def outline(self, number: int) -> Outline:
        """Find the pieces of a block, and return what other blocks have to know of them."""
        return self.find(number).outline

    def stored(self, region: Region) -> NDArray[Any]:
        """Read labels back.

        Raises
        ------
        OutputError
            If they can not be read.
        """
        with storage_errors(
            lambda why: OutputError(
                f"The labels written at {_name(region)} could not be read back: {why}. Check the "
                "disk and run again."
            )
        ):
            return np.array(self.output[region])

    def store(self, region: Region, labels: NDArray[Any]) -> None:
        """Write labels as they are.

        Raises
        ------
        OutputError
            If the array does not take them.
        """
        with storage_errors(
            lambda why: OutputError(
                f"The labels could not be written at {_name(region)}: {why}. Check the free space "
                "of the disk and whether the folder can be written to, then run again."
            )
        ):
            self.output[region] = labels

    def add(self, region: Region, labels: NDArray[Any]) -> None:
        """Write labels where they are not 0, and keep what is there elsewhere.

        Raises
        ------
        OutputError
            If the array does not take them, a label is too high for its dtype, or
            another object is there already: the array was not empty at the start.
        """
        self.ensure_room(int(labels.max(initial=0)))
        for number, part in self.grid.overlapping(region):
            new = labels[within(part, region)]
            mask = new > 0
            if not mask.any():
                continue
            merged = self.stored(part)
            if self.method.makes_objects and merged[mask].any():
                raise OutputError(
                    f"There are labels already at {_name(part)}. Write to a new array, or set "
                    "all of it to 0 first."
                )
            merged[mask] = new[mask]
            self.store(part, merged)
            self.touched[number] = True

    def ensure_room(self, highest: int) -> None:
        """Raise an OutputError if the output can not hold this label."""
        self.highest = max(self.highest, highest)
        largest = int(np.iinfo(self.output.dtype).max)
        if highest > largest:
            raise OutputError(
                f"Labels go up to {highest:,} or more, but the label array holds {largest:,} at "
                "most. Write to an array of uint32 or uint64."
            )


def _name(region: Region) -> str:
    axes = "ZYX"[-len(region) :]
    return ", ".join(f"{a} {r.start}:{r.stop}" for a, r in zip(axes, region, strict=True))


@dataclass(frozen=True)
class Runs:
    """Stretches of equal labels along the last axis; background is left out.

    Attributes
    ----------
    starts, lengths : array of int64
        Position in the flattened array, and number of pixels.
    values : array of int
        The label.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    values: NDArray[np.integer]

    def firsts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the labels by their first pixel, and where in the flat array that is."""
        first = np.full(int(self.values.max(initial=0)) + 1, -1, np.int64)
        first[self.values[::-1]] = self.starts[::-1]  # the last one written comes first
        ids = np.flatnonzero(first >= 0)
        ids = ids[np.argsort(first[ids])]
        return ids, first[ids]


def find_runs(labels: NDArray[np.integer]) -> Runs:
    """Find the stretches of equal labels; each row begins anew."""
    flat = labels.ravel()
    new = np.empty(len(flat), np.bool_)
    np.not_equal(flat[1:], flat[:-1], out=new[1:])
    new[:: labels.shape[-1]] = True
    starts = np.flatnonzero(new)
    values = flat[starts]
    lengths = np.diff(starts, append=flat.size)
    inside = values > 0
    return Runs(starts[inside], lengths[inside], values[inside])


@dataclass
class ObjectTable:
    """First pixel, size and position of the objects written so far.

    Objects have temporary ids 1, 2, … in the order in which they are added.

    Attributes
    ----------
    shape : tuple of int
        Of the frame.
    count : int
        Number of objects so far.
    """

    shape: tuple[int, ...]
    count: int = 0
    _first: list[NDArray[np.int64]] = field(default_factory=list)
    _sizes: list[NDArray[np.int64]] = field(default_factory=list)
    _sums: list[NDArray[np.int64]] = field(default_factory=list)
    _boxes: list[NDArray[np.int64]] = field(default_factory=list)

    def add(
        self, runs: Runs, ids: NDArray[np.int64], firsts: NDArray[np.int64], region: Region
    ) -> NDArray[np.int64]:
        """Add objects of a region.

        Parameters
        ----------
        runs : Runs
            Of the region's labels.
        ids, firsts : array of int64
            Which of them to add, and their first pixels as :meth:`Runs.firsts` gives them.

        Returns
        -------
        array of int64, axes (label,)
            For each label in the runs its temporary id; 0 for those not added.
        """
        new = np.zeros(int(runs.values.max(initial=0)) + 1, np.int64)
        new[ids] = np.arange(1, len(ids) + 1)
        row = new[runs.values] - 1
        mine = row >= 0
        row, starts, lengths = row[mine], runs.starts[mine], runs.lengths[mine]
        sizes = _count(row, lengths, len(ids))
        shape = [r.stop - r.start for r in region]
        sums = np.empty((len(ids), len(shape)), np.int64)
        boxes = np.empty((len(ids), len(shape), 2), np.int64)
        for axis, position in enumerate(np.unravel_index(starts, shape)):
            end = position + (lengths if axis == len(shape) - 1 else 1)
            boxes[:, axis, 0], boxes[:, axis, 1] = shape[axis], 0
            np.minimum.at(boxes[:, axis, 0], row, position)
            np.maximum.at(boxes[:, axis, 1], row, end)
            boxes[:, axis] += region[axis].start
            along = lengths * position
            if axis == len(shape) - 1:
                along += lengths * (lengths - 1) // 2
            sums[:, axis] = _count(row, along, len(ids)) + sizes * region[axis].start
        where = np.stack(np.unravel_index(firsts, shape), axis=1) + origin(region)
        self._first.append(np.ravel_multi_index(tuple(where.T), self.shape).astype(np.int64))
        self._sizes.append(sizes)
        self._sums.append(sums)
        self._boxes.append(boxes)
        new[ids] += self.count
        self.count += len(ids)
        return new

    def join(self, other: Columns) -> None:
        """Add objects that were counted elsewhere, in their order there.

        Parameters
        ----------
        other : tuple of array
            As :meth:`columns` returns them.
        """
        for mine, theirs in zip(
            (self._first, self._sizes, self._sums, self._boxes), other, strict=True
        ):
            mine.append(theirs)
        self.count += len(other[0])

    def columns(self) -> Columns:
        """Return first pixel, size, sum of the coordinates and box of all objects.

        Axes (object,), (object,), (object, axis) and (object, axis, 2).
        """
        if not self._first:
            none, ndim = np.zeros(0, np.int64), len(self.shape)
            return none, none, np.zeros((0, ndim), np.int64), np.zeros((0, ndim, 2), np.int64)
        return (
            np.concatenate(self._first),
            np.concatenate(self._sizes),
            np.concatenate(self._sums),
            np.concatenate(self._boxes),
        )


def _count(rows: NDArray[np.int64], weights: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    # Sums within a region stay far below 2**53, where float64 is exact.
    return np.bincount(rows, weights, minlength=count).astype(np.int64)
