"""Values that come in pieces, put together so that each chunk of a Zarr is packed once."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Of chunks that wait for what is missing. A row of chunks of 1,024² pixels is as large at a
# width of 65,536 pixels of one byte.
MOST_GATHERED_BYTES = 64 * 2**20

Number = tuple[int, ...]  # of a chunk, along each axis
Box = tuple[slice, ...]


class GatheredChunks:
    """Takes values for regions of a Zarr array, and writes each chunk when it is whole.

    Tiles do not end where chunks do: written as they come, a chunk between four tiles is
    unpacked and packed four times. Here it waits in memory for what is missing. Where too
    many wait, the one that lies last is written as it is, and read again for the rest:
    tiles come in the order of the axes, so it will be whole last.

    Several threads may write.

    Parameters
    ----------
    array : zarr.Array
        Every value of which is 0, and which nobody else writes to meanwhile.
    most : int
        Bytes of chunks that wait.
    """

    def __init__(self, array: Any, most: int = MOST_GATHERED_BYTES) -> None:
        self._array, self._most = array, most
        # Chunks that are stored together are packed together.
        self._edges: tuple[int, ...] = array.shards or array.chunks
        self._waiting: dict[Number, NDArray[Any]] = {}
        self._missing: dict[Number, int] = {}  # values, of chunks that wait or were begun
        self._bytes = 0
        self._lock = threading.Lock()

    def __setitem__(self, region: tuple[slice | int, ...], value: Any) -> None:
        """Take values for a region: one slice of step 1, or one number, per axis.

        No value may be given twice.

        Parameters
        ----------
        region : tuple of slice or int
        value : array, axes as in the region
            Not kept: what waits is a copy.
        """
        box = tuple(
            slice(*part.indices(n)[:2]) if isinstance(part, slice) else slice(part, part + 1)
            for part, n in zip(region, self._array.shape, strict=True)
        )
        value = np.asarray(value).reshape([s.stop - s.start for s in box])
        whole = self._whole_part(box)
        if whole is not None:
            self._array[whole] = value[_within(whole, box)]
        for number in self._chunks(box):
            place = self._place(number)
            if whole is not None and _lies_in(place, whole):
                continue
            finished = self._add(number, place, box, value)
            if finished is not None:
                self._array[place] = finished

    def flush(self) -> None:
        """Write what waits, as it is."""
        with self._lock:
            while self._waiting:
                self._write_as_it_is(next(iter(self._waiting)))

    def _add(
        self, number: Number, place: Box, box: Box, value: NDArray[Any]
    ) -> NDArray[Any] | None:
        """Add what a region has of a chunk; return the chunk if it is whole now."""
        part = tuple(
            slice(max(p.start, b.start), min(p.stop, b.stop))
            for p, b in zip(place, box, strict=True)
        )
        with self._lock:
            chunk = self._waiting.get(number)
            if chunk is None:
                chunk = self._begin(number, place)
            chunk[_within(part, place)] = value[_within(part, box)]
            self._missing[number] -= _size(part)
            if self._missing[number] == 0:
                del self._missing[number]
                self._bytes -= chunk.nbytes
                return self._waiting.pop(number)
            # The one just begun is among them: it alone may be too large.
            while self._bytes > self._most:
                self._write_as_it_is(max(self._waiting))
        return None

    def _begin(self, number: Number, place: Box) -> NDArray[Any]:
        """Make room for a chunk, or take up one that was written before it was whole."""
        if number in self._missing:
            chunk = np.array(self._array[place])
        else:
            chunk = np.zeros([s.stop - s.start for s in place], self._array.dtype)
            self._missing[number] = chunk.size
        self._waiting[number] = chunk
        self._bytes += chunk.nbytes
        return chunk

    def _write_as_it_is(self, number: Number) -> None:
        chunk = self._waiting.pop(number)
        self._bytes -= chunk.nbytes
        self._array[self._place(number)] = chunk

    def _whole_part(self, box: Box) -> Box | None:
        """Return the part of a region that is whole chunks, if there is one."""
        whole = tuple(
            slice(-(-s.start // edge) * edge, s.stop if s.stop == n else s.stop // edge * edge)
            for s, edge, n in zip(box, self._edges, self._array.shape, strict=True)
        )
        return whole if all(s.stop > s.start for s in whole) else None

    def _chunks(self, box: Box) -> Iterator[Number]:
        """Yield the chunks that a region touches."""
        return itertools.product(
            *(
                range(s.start // edge, -(-s.stop // edge))
                for s, edge in zip(box, self._edges, strict=True)
            )
        )

    def _place(self, number: Number) -> Box:
        return tuple(
            slice(i * edge, min((i + 1) * edge, n))
            for i, edge, n in zip(number, self._edges, self._array.shape, strict=True)
        )


def _within(part: Box, box: Box) -> Box:
    """Return where a part of a box is, counted from the box's own corner."""
    return tuple(
        slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True)
    )


def _lies_in(part: Box, box: Box) -> bool:
    return all(b.start <= p.start and p.stop <= b.stop for p, b in zip(part, box, strict=True))


def _size(box: Box) -> int:
    return math.prod(s.stop - s.start for s in box)
