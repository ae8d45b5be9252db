"""Lazy arrays whose blocks stay in memory once they were read, up to a limit."""

from __future__ import annotations

import itertools
import math
import threading
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.images.volume import ArrayLike, Volume

# What a training looks at again and again: crops around strokes.
_MOST_BYTES = 1 << 30
_EDGE = 512  # of blocks along Y and X, where chunks are unknown or large
_LARGEST_CHUNK = 1 << 25  # bytes that are worth reading for a few pixels


class KeptBlocks:
    """Reads an array block by block, each once as long as there is room.

    Parameters
    ----------
    array : dask, zarr or other array
    most : int
        Bytes to keep; the blocks that were not asked for longest go first.
    """

    def __init__(self, array: ArrayLike, most: int = _MOST_BYTES) -> None:
        self._array, self._most = array, most
        self._edges = _edges(array)
        self._kept: OrderedDict[tuple[int, ...], NDArray[Any]] = OrderedDict()
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

    def __getitem__(self, key: tuple[slice | int, ...]) -> NDArray[Any]:
        """Return a region: one slice of step 1, or one number, per axis."""
        spans = [
            slice(*part.indices(n)) if isinstance(part, slice) else slice(part % n, part % n + 1)
            for part, n in zip(key, self.shape, strict=True)
        ]
        found = np.empty([max(0, s.stop - s.start) for s in spans], self.dtype)
        numbers = [
            range(s.start // edge, -(-s.stop // edge) if s.stop > s.start else s.start // edge)
            for s, edge in zip(spans, self._edges, strict=True)
        ]
        for number in itertools.product(*numbers):
            block = self._block(number)
            starts = [i * edge for i, edge in zip(number, self._edges, strict=True)]
            low = [max(s.start, b) for s, b in zip(spans, starts, strict=True)]
            high = [min(s.stop, b + n) for s, b, n in zip(spans, starts, block.shape, strict=True)]
            into = tuple(slice(a - s.start, b - s.start)
                         for a, b, s in zip(low, high, spans, strict=True))  # fmt: skip
            out = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, starts, strict=True))
            found[into] = block[out]
        return found[tuple(slice(None) if isinstance(part, slice) else 0 for part in key)]

    def _block(self, number: tuple[int, ...]) -> NDArray[Any]:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
        key = tuple(
            slice(i * edge, min((i + 1) * edge, n))
            for i, edge, n in zip(number, self._edges, self.shape, strict=True)
        )
        block: NDArray[Any] = np.asarray(self._array[key])
        with self._lock:
            if number not in self._kept:
                self._kept[number] = block
                self._bytes += block.nbytes
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return block


def keep_blocks(volume: Volume) -> Volume:
    """Return a volume that is read lazily and not twice; one that is in memory as it is."""
    if isinstance(volume.array, np.ndarray):
        return volume
    return replace(volume, array=KeptBlocks(volume.array))


def _edges(array: ArrayLike) -> tuple[int, ...]:
    shape = [int(n) for n in array.shape]
    chunks = getattr(array, "chunksize", None) or getattr(array, "chunks", None)
    if (
        chunks is not None
        and len(chunks) == len(shape)
        and all(isinstance(n, int | np.integer) and n > 0 for n in chunks)
        and math.prod(chunks) * np.dtype(array.dtype).itemsize <= _LARGEST_CHUNK
    ):
        return tuple(int(n) for n in chunks)
    large = sorted(range(len(shape)), key=lambda axis: shape[axis])[-2:]
    return tuple(max(1, min(n, _EDGE)) if axis in large else 1 for axis, n in enumerate(shape))
