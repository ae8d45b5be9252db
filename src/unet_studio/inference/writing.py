"""Write a result from a thread of its own, so that the network need not wait for a disk."""

from __future__ import annotations

import sys
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np

from unet_studio.images.gathered_chunks import GatheredChunks

# Threads that read, or write, for a device that would wait for one: enough to be limited by
# memory and decompression, and no more than hold a few tiles.
MOST_THREADS = 4
# Of arrays on the disk that tiles are written to: low, as rows of them wait for the next tiles.
# A plane of a stack is written at a time.
SCRATCH_CHUNK = {2: (256, 1024), 3: (8, 256, 256)}


class Writer:
    """Assigns values to regions of an array.

    One after the other, in the order given, unless several threads may write.

    A context manager. Leaving it waits until all is written. Leaving it by an error (a
    cancelled run is one) drops what waits, and waits for the values that are being
    written: nothing is written after that.

    Parameters
    ----------
    output : writable array
        Of numpy, or of Zarr and all 0: regions have to be disjoint in both. Each chunk of
        a Zarr is packed once (:class:`~unet_studio.images.gathered_chunks.GatheredChunks`).
        Others are written to by one thread.
    threads : int
        That write at once.

    Raises
    ------
    Exception
        What writing raised, at the next :meth:`put` or on leaving. Nothing is written
        after a value that could not be.
    """

    def __init__(self, output: Any, threads: int = 1) -> None:
        self._chunks = GatheredChunks(output) if _is_zarr(output) else None
        self._output = self._chunks or output
        self._failed = False
        self._waiting: deque[Future[None]] = deque()
        self._most = threads if self._chunks or isinstance(output, np.ndarray) else 1
        self._threads = ThreadPoolExecutor(self._most, "unet-studio-write")

    def put(self, region: tuple[slice | int, ...], value: Any) -> None:
        """Have a value written; waits while too many others are waiting.

        Parameters
        ----------
        region : tuple of slice or int
        value : array
            Not to be changed from here on.
        """
        # One more than are at work: others would take memory, and win nothing on average.
        self.wait(self._most)
        self._waiting.append(self._threads.submit(self._write, region, value))

    def wait(self, left: int = 0) -> None:
        """Wait until no more than so many values are unwritten."""
        while len(self._waiting) > left:
            self._waiting.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.wait()
                if self._chunks is not None:
                    self._chunks.flush()
        finally:
            self._threads.shutdown(wait=True, cancel_futures=True)

    def _write(self, region: tuple[slice | int, ...], value: Any) -> None:
        if self._failed:
            return
        try:
            self._output[region] = value
        except BaseException:
            self._failed = True
            raise


def _is_zarr(array: Any) -> bool:
    # One that is there was made by a module that is there: nothing is imported for others.
    zarr = sys.modules.get("zarr")
    return zarr is not None and isinstance(array, zarr.Array)
