"""Cut an array of any size into blocks: nothing but whole numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, ...]


@dataclass(frozen=True)
class Grid:
    """Blocks that cover an array, numbered from 0 in scan order.

    Attributes
    ----------
    shape, block : tuple of int
        Of the array and of a block, in pixels; the last blocks may be smaller.
    """

    shape: tuple[int, ...]
    block: tuple[int, ...]

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(-(-n // b) for n, b in zip(self.shape, self.block, strict=True))

    @cached_property
    def steps(self) -> tuple[int, ...]:
        """How much a block's number grows from one to the next along each axis."""
        return tuple(math.prod(self.counts[axis + 1 :]) for axis in range(len(self.counts)))

    @cached_property
    def size(self) -> int:
        """Number of blocks."""
        return math.prod(self.counts)

    def index(self, number: int) -> tuple[int, ...]:
        """Return the position of a block, counted in blocks along each axis."""
        return tuple(number // s % c for s, c in zip(self.steps, self.counts, strict=True))

    def number(self, index: tuple[int, ...]) -> int | None:
        """Return the number of the block at a position; None outside."""
        if all(0 <= i < c for i, c in zip(index, self.counts, strict=True)):
            return sum(i * s for i, s in zip(index, self.steps, strict=True))
        return None

    def homes(self, boxes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the block in which each box (n, axis, 2) begins."""
        index: NDArray[np.int64] = boxes[:, :, 0] // np.array(self.block, np.int64)
        return np.asarray(index @ np.array(self.steps, np.int64))

    def stretch(self, boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which boxes (n, axis, 2) end more than half a block beyond their first block."""
        block = np.array(self.block, np.int64)
        end = (boxes[:, :, 0] // block + 1) * block
        return np.asarray((boxes[:, :, 1] - end > block // 2).any(axis=1))

    def bounds(self, number: int) -> Region:
        """Return what a block covers, in pixels."""
        return tuple(
            slice(i * b, min(i * b + b, n))
            for i, b, n in zip(self.index(number), self.block, self.shape, strict=True)
        )

    def blocks(self, check: Callable[[], None] | None = None) -> Iterator[Region]:
        """Yield what each block covers; ``check`` is called before each, and may raise to stop."""
        for number in range(self.size):
            if check is not None:
                check()
            yield self.bounds(number)

    def grown(self, region: Region, by: int) -> Region:
        """Return a region with so many pixels more on all sides, as far as the array goes."""
        return tuple(
            slice(max(0, r.start - by), min(n, r.stop + by))
            for r, n in zip(region, self.shape, strict=True)
        )

    def overlapping(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Yield each block that a region meets, with what they have in common."""
        ranges = [
            range(r.start // b, -(-r.stop // b)) for r, b in zip(region, self.block, strict=True)
        ]
        for index in itertools.product(*ranges):
            number = sum(i * s for i, s in zip(index, self.steps, strict=True))
            yield (
                number,
                tuple(
                    slice(max(r.start, c.start), min(r.stop, c.stop))
                    for r, c in zip(region, self.bounds(number), strict=True)
                ),
            )


def origin(region: Region) -> NDArray[np.int64]:
    """Return the first pixel of a region, axes (axis,)."""
    return np.array([r.start for r in region], np.int64)


def within(part: Region, region: Region) -> Region:
    """Return a part of a region, counted from the region's first pixel."""
    return tuple(
        slice(p.start - r.start, p.stop - r.start) for p, r in zip(part, region, strict=True)
    )


def face(array: NDArray[Any], axis: int, position: int) -> NDArray[Any]:
    """Return one plane of an array, without copying it."""
    return array[(slice(None),) * axis + (position,)]
