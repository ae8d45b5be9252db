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
        self._wanting, self._frozen = 0, False

    def leave_alone(self) -> None:
        with self._lock:
            # Where somebody else has done so already, it stays as it is.
            if not self._wanting and gc.get_freeze_count() == 0:
                gc.freeze()
                self._frozen = True
            self._wanting += 1

    def take_up(self) -> None:
        with self._lock:
            self._wanting -= 1
            if not self._wanting and self._frozen:
                gc.unfreeze()
                self._frozen = False


_OLD_OBJECTS = _OldObjects()


@contextmanager
def old_objects_left_alone() -> Iterator[None]:
    """Search among objects that are made from now on alone, until the work has ended.

    What was there before and is in a circle that nobody refers to any more, such as a layer
    that the user removes meanwhile, is found afterwards. Work that overlaps is one.
    """
    _OLD_OBJECTS.leave_alone()
    try:
        yield
    finally:
        _OLD_OBJECTS.take_up()
