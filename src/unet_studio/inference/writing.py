"""Write a result from a thread of its own, so that the network need not wait for a disk."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import numpy as np

# Threads that read, or write, for a device that would wait for one: enough to be limited by
# memory and decompression, and no more than hold a few tiles.
MOST_THREADS = 4


class Writer:
    """Assigns values to regions of an array.

    One after the other, in the order given, unless several threads may write.

    A context manager. Leaving it waits until all is written. Leaving it by an error (a
    cancelled run is one) drops what waits, and waits for the one value that is being
    written: nothing is written after that.

    Parameters
    ----------
    output : writable array
        numpy or Zarr.
    threads : int
        That write at once, if the array is one of numpy: regions have to be disjoint
        then. Elsewhere (in the chunks of a Zarr) those of neighbours are not.

    Raises
    ------
    Exception
        What writing raised, at the next :meth:`put` or on leaving. Nothing is written
        after a value that could not be.
    """

    def __init__(self, output: Any, threads: int = 1) -> None:
        self._output = output
        self._failed = False
        self._waiting: deque[Future[None]] = deque()
        self._most = threads if isinstance(output, np.ndarray) else 1
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
