"""Give memory that was freed back to the system.

glibc keeps most of what a program frees, for its next requests. In a window that is
open for a day the process then seems to grow, by tens of megabytes at a time, and
the memory is missing elsewhere. In a run over many tiles that is 100 MB and more, in
holes that the next tile does not fit into.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache

# What makes it worth the time: about what a large tile, or many small ones, leave behind.
_VALUES = 2**21


class FreedMemory:
    """Gives memory back now and then, while values come and go.

    Parameters
    ----------
    keep : bool
        Never give anything back.
    """

    def __init__(self, *, keep: bool) -> None:
        self._keep, self._values = keep, 0

    def add(self, values: int) -> None:
        """Count so many values that are gone."""
        self._values += values
        if self._values >= _VALUES and not self._keep:
            give_back_freed_memory()
            self._values = 0


def give_back_freed_memory() -> None:
    """Hand pages that nothing uses back to the system, where the C library can (glibc).

    Notes
    -----
    ``malloc_trim(3)``; without the GIL, but other threads wait when they ask for memory.
    """
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if os.name != "posix":
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
