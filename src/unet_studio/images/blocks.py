"""Blocks of chunked arrays: which of them to take at a time, and which can not be read."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

Item = TypeVar("Item")
Result = TypeVar("Result")


class Each(Protocol):
    """Who does a piece of work on each of many items: the builtin ``map``, or many workers.

    Results come in the order of the items. Work and items have to be values that can
    travel, and work may be done twice: it must not matter.
    """

    def __call__(
        self, work: Callable[[Item], Result], items: Iterable[Item], /
    ) -> Iterator[Result]:
        """Return the results of ``work(item)``."""
        ...


_THREADS = 4  # to unpack and count blocks: memory sets the limit


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], /) -> Iterator[Result]:
    """Do a piece of work on each of many items, in a few threads; see :class:`Each`.

    Items are taken in the caller's thread, few more than there are threads.
    """
    count = min(_THREADS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(count, "unet-studio-blocks")
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


# Reading again is only for the message; beyond so many blocks it takes too long.
_MOST_BLOCKS = 64


def failing_block(array: Any, key: Sequence[slice | int]) -> tuple[slice, ...] | None:
    """Return the first block of an array that fails within a region.

    Reads up to 64 blocks of the region once more: only for use after an error.

    Parameters
    ----------
    array : dask, zarr or other array; looked at if it has ``chunks``
    key : sequence of slice or int
        The region that could not be read, one entry per axis.

    Returns
    -------
    tuple of slice, or None
        Bounds of the block; None if the array has no blocks, or none of those read
        fails now.
    """
    chunks = getattr(array, "chunks", None)
    if not chunks or len(chunks) != len(key) or 0 in chunks:
        return None
    # No axis is listed beyond what is looked at: a damaged file may promise billions of blocks.
    axes = [
        itertools.islice(_blocks(size, length, wanted), _MOST_BLOCKS)
        for size, length, wanted in zip(chunks, array.shape, key, strict=True)
    ]
    for block in itertools.islice(itertools.product(*axes), _MOST_BLOCKS):
        try:
            np.asarray(array[block])
        except MemoryError:
            return None
        except Exception:  # any back end raises its own; that it raises is the answer
            return block
    return None


def whole_chunks(
    shape: Sequence[int], chunks: Sequence[int], most: int, fixed: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the shape of blocks of whole chunks, as large as is allowed.

    The last axes grow first: what lies together in a store is taken together.

    Parameters
    ----------
    shape, chunks : sequence of int
        Of the array.
    most : int
        Values in a block; one chunk is taken even if it has more.
    fixed : sequence of int
        Axes along which a block is one chunk long.
    """
    block = list(chunks)
    for axis in reversed(range(len(shape))):
        if axis not in fixed:
            fitting = most // math.prod(block)
            block[axis] *= max(1, min(fitting, -(-shape[axis] // chunks[axis])))
    return tuple(block)


def _blocks(size: int | Sequence[int], length: int, wanted: slice | int) -> Iterator[slice]:
    """Yield the blocks along an axis that a region touches.

    Parameters
    ----------
    size : int or sequence of int
        Of one size (zarr), or of listed sizes (dask).
    length : int
        Of the axis.
    wanted : slice or int
        The region.
    """
    first, stop, _ = (wanted if isinstance(wanted, slice) else _one(wanted)).indices(length)
    if isinstance(size, int):
        for start in range(first // size * size, stop, size):
            yield slice(start, min(start + size, length))
        return
    end = 0
    for step in size:
        start, end = end, end + step
        if start < stop and first < end:
            yield slice(start, end)


def _one(index: int) -> slice:
    return slice(index, index + 1 or None)  # of the last element, -1, there is no end
