"""What a run reports while it works, and how it is told to stop.

The engine yields these from generators. The command line draws them with rich,
the window in napari's activity dock; neither is known here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from unet_studio.errors import Cancelled


@dataclass(frozen=True)
class Started:
    """A stage begins.

    Attributes
    ----------
    stage : str
        What is being done, as a verb with -ing ("predicting").
    total : int
        Steps of this stage; 0 if unknown.
    """

    stage: str
    total: int = 0


@dataclass(frozen=True)
class TileDone:
    """One of ``total`` tiles has been predicted."""

    done: int
    total: int


@dataclass(frozen=True)
class Warned:
    """Something the user should know; the run goes on."""

    message: str


Event = Started | TileDone | Warned


class CancelToken:
    """A flag that one thread sets and the engine reads between tiles."""

    def __init__(self) -> None:
        self._flag = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop at the next tile."""
        self._flag.set()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._flag.is_set()

    def raise_if_cancelled(self) -> None:
        """Raise :class:`~unet_studio.errors.Cancelled` if asked to stop."""
        if self.cancelled:
            raise Cancelled("The run was cancelled; nothing was changed.")
