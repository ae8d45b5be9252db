"""Give memory that a run has freed back to the system.

glibc keeps most of what a program frees, for its next requests. In a window that is
open for a day the process then seems to grow, by tens of megabytes at a time, and
the memory is missing elsewhere.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache


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
