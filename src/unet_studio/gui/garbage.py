"""Python's search for objects that nothing refers to, kept short while work runs beside.

Every now and then it looks at each object there is: half a million in a window with
napari and torch, for which it takes 0.4 s, and nothing else of Python runs meanwhile. A training
makes enough objects for that to happen in the middle of a stroke (``benchmarks/painting.py``).
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _OldObjects:
    """Leaves objects out of the search while anybody wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanting = 0

    def leave_alone(self) -> None:
        with self._lock:
            if not self._wanting:
                gc.freeze()
            self._wanting += 1

    def take_up(self) -> None:
        with self._lock:
            self._wanting -= 1
            if not self._wanting:
                gc.unfreeze()


_OLD_OBJECTS = _OldObjects()


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Search among objects that are made from now on alone, until the work has ended.

    What was there before, and is not referred to any more, is found afterwards. Work
    that overlaps is one.
    """
    _OLD_OBJECTS.leave_alone()
    try:
        yield
    finally:
        _OLD_OBJECTS.take_up()
