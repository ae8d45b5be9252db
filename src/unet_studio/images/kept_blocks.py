"""Lazy arrays whose blocks stay in memory once they were read, up to a limit."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.images.volume import ArrayLike, Volume, may_read_at_once

# What a training looks at again and again: crops around strokes.
_MOST_BYTES = 1 << 30
_EDGE = 512  # of blocks along Y and X, where chunks are unknown or large
_LARGEST_CHUNK = 1 << 25  # bytes that are worth reading for a few pixels
_LEAST_KEPT = 8  # chunks that have to fit, or keeping them is of no use

Number = tuple[int, ...]  # of a block, along each axis
Box = tuple[range, ...]  # of blocks


class KeptBlocks:
    """Reads an array block by block, each once as long as there is room.

    Several threads may read at once, if they may in the array: what one of them is
    reading, the others wait for. Blocks side by side are read in one go.

    Parameters
    ----------
    array : dask, zarr or other array
    most : int
        Bytes to keep; the blocks that were not asked for longest go first.
    """

    def __init__(self, array: ArrayLike, most: int = _MOST_BYTES) -> None:
        self._array, self._most = array, most
        self._edges = _edges(array)
        self._kept: OrderedDict[Number, NDArray[Any]] = OrderedDict()
        self._coming: dict[Number, Future[NDArray[Any]]] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return tuple(int(n) for n in self._array.shape)

    @property
    def dtype(self) -> Any:
        """Of the array."""
        return self._array.dtype

    @property
    def chunks(self) -> Any:
        """Of the array, if it has any; a message names the chunk that can not be read."""
        return getattr(self._array, "chunks", None)

    @property
    def concurrent(self) -> bool:
        """Whether several threads may read at once."""
        return may_read_at_once(self._array)

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        """Return a region: one slice of step 1, or one number, per axis."""
        spans = [
            slice(*part.indices(n)) if isinstance(part, slice) else slice(part % n, part % n + 1)
            for part, n in zip(key, self.shape, strict=True)
        ]
        found = np.empty([max(0, s.stop - s.start) for s in spans], self.dtype)
        wanted = [
            range(s.start // edge, -(-s.stop // edge) if s.stop > s.start else s.start // edge)
            for s, edge in zip(spans, self._edges, strict=True)
        ]
        for number, block in self._blocks(list(itertools.product(*wanted))):
            starts = [i * edge for i, edge in zip(number, self._edges, strict=True)]
            low = [max(s.start, b) for s, b in zip(spans, starts, strict=True)]
            high = [min(s.stop, b + n) for s, b, n in zip(spans, starts, block.shape, strict=True)]
            into = tuple(slice(a - s.start, b - s.start)
                         for a, b, s in zip(low, high, spans, strict=True))  # fmt: skip
            out = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, starts, strict=True))
            found[into] = block[out]
        return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]

    def _blocks(self, numbers: Sequence[Number]) -> Iterator[tuple[Number, NDArray[Any]]]:
        """Yield blocks in any order: those that are here, those to be read, those of others."""
        own: dict[Number, Future[NDArray[Any]]] = {}
        others: dict[Number, Future[NDArray[Any]]] = {}
        here: dict[Number, NDArray[Any]] = {}
        with self._lock:
            for number in numbers:
                if number in self._kept:
                    self._kept.move_to_end(number)
                    here[number] = self._kept[number]
                elif number in self._coming:
                    others[number] = self._coming[number]
                else:
                    own[number] = self._coming[number] = Future()
        try:
            yield from here.items()
            here.clear()
            for box in _boxes(own):
                for number, block in self._read(box):
                    with self._lock:
                        self._keep(number, block)
                        del self._coming[number]
                    own.pop(number).set_result(block)
                    yield number, block
        finally:
            # What could not be read, or was not, is for whoever asks next.
            with self._lock:
                for number, future in own.items():
                    del self._coming[number]
                    future.cancel()
        for number, future in others.items():
            # Nobody waits who has not read, or failed to read, what is his to read.
            theirs = _outcome(future)
            yield from self._blocks([number]) if theirs is None else [(number, theirs)]

    def _read(self, box: Box) -> Iterator[tuple[Number, NDArray[Any]]]:
        """Read blocks side by side."""
        firsts = [span.start * edge for span, edge in zip(box, self._edges, strict=True)]
        lasts = [
            min(span.stop * edge, n)
            for span, edge, n in zip(box, self._edges, self.shape, strict=True)
        ]
        key = tuple(slice(*bounds) for bounds in zip(firsts, lasts, strict=True))
        read: NDArray[Any] = np.asarray(self._array[key])
        several = math.prod(map(len, box)) > 1
        for number in itertools.product(*box):
            part = tuple(
                slice(i * edge - first, (i + 1) * edge - first)
                for i, edge, first in zip(number, self._edges, firsts, strict=True)
            )
            # A copy: a view would hold all that was read in memory.
            yield number, read[part].copy() if several else read

    def _keep(self, number: Number, block: NDArray[Any]) -> None:
        self._kept[number] = block
        self._bytes += block.nbytes
        while self._bytes > self._most and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _outcome(future: Future[NDArray[Any]]) -> NDArray[Any] | None:
    """Wait for a block that another thread reads; None if it gave up."""
    try:
        return future.result()
    except CancelledError:
        return None


def _boxes(numbers: Iterable[Number]) -> list[Box]:
    """Join blocks that lie side by side to boxes, along the last axis first."""
    boxes: list[Box] = [tuple(range(i, i + 1) for i in number) for number in sorted(numbers)]
    for axis in reversed(range(len(boxes[0]) if boxes else 0)):
        rows: dict[Box, list[range]] = {}
        for box in boxes:  # in order along the axis
            row = rows.setdefault((*box[:axis], *box[axis + 1 :]), [])
            if row and row[-1].stop == box[axis].start:
                row[-1] = range(row[-1].start, box[axis].stop)
            else:
                row.append(box[axis])
        boxes = [(*rest[:axis], r, *rest[axis:]) for rest, row in rows.items() for r in row]
    return boxes


def keep_blocks(volume: Volume) -> Volume:
    """Return a volume that is read lazily and not twice; one that is in memory as it is."""
    if isinstance(volume.array, np.ndarray):
        return volume
    return replace(volume, array=KeptBlocks(volume.array))


def keep_chunks(volume: Volume, most: int) -> Volume:
    """Return a volume whose chunks are not unpacked anew for every tile that touches them.

    Tiles overlap, and seldom begin where chunks do: of chunks of 1,024² pixels, one of
    2,048² with a margin touches 16, and the image has 4 for each. What has no chunks, or
    large ones, stays as it is.

    Parameters
    ----------
    volume : Volume
    most : int
        Bytes to keep.
    """
    chunk = _chunk(volume.array)
    if chunk is None or _LEAST_KEPT * _bytes(chunk, volume.array.dtype) > most:
        return volume
    return replace(volume, array=KeptBlocks(volume.array, most))


def _chunk(array: ArrayLike) -> tuple[int, ...] | None:
    """Return the shape of the largest chunk, if the array is stored or computed in chunks."""
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    if chunks is None or len(chunks) != len(array.shape):
        return None
    if not all(isinstance(n, int | np.integer) and n > 0 for n in chunks):
        return None
    return tuple(int(n) for n in chunks)


def _bytes(shape: tuple[int, ...], dtype: Any) -> int:
    return math.prod(shape) * int(np.dtype(dtype).itemsize)


def _edges(array: ArrayLike) -> tuple[int, ...]:
    chunk = _chunk(array)
    if chunk is not None and _bytes(chunk, array.dtype) <= _LARGEST_CHUNK:
        return chunk
    shape = [int(n) for n in array.shape]
    large = sorted(range(len(shape)), key=lambda axis: shape[axis])[-2:]
    return tuple(max(1, min(n, _EDGE)) if axis in large else 1 for axis, n in enumerate(shape))
