"""What a run reports while it works, and how it is told to stop.

The engine yields these from generators. The command line draws them with rich,
the window in napari's activity dock; neither is known here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

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
    """``done`` of ``total`` steps of a stage are done: tiles, or later blocks or frames."""

    done: int
    total: int


@dataclass(frozen=True)
class Warned:
    """Something the user should know; the run goes on."""

    message: str


@dataclass(frozen=True)
class Trained:
    """One of ``steps`` training steps is done.

    Attributes
    ----------
    step, steps : int
        Done, and planned; with a limit of time the plan is made after a few steps.
    loss : float
        Of this step, rehearsal included.
    score : float or None
        Balanced share of held-back regions that are right, range [0, 1], where it was
        measured at this step.
    seconds_left : float
        Forecast.
    """

    step: int
    steps: int
    loss: float
    score: float | None = None
    seconds_left: float = 0.0


Event = Started | TileDone | Warned | Trained


def steps_done(steps: Generator[tuple[int, int], None, Any]) -> Generator[Event, None, Any]:
    """Turn pairs of steps done and steps in all into events, and return the result.

    Yields
    ------
    TileDone
        None where there is only one step.
    """
    while True:
        try:
            done, total = next(steps)
        except StopIteration as stop:
            return stop.value
        if total > 1:
            yield TileDone(done, total)


def drain(steps: Generator[Any, None, Any], on_event: Callable[[Any], None] | None = None) -> Any:
    """Run a generator to its end and return its result.

    Parameters
    ----------
    steps : generator
        Of events, or of anything else that tells how far it is.
    on_event : callable, optional
        Called with each thing that it yields.
    """
    while True:
        try:
            event = next(steps)
        except StopIteration as stop:
            return stop.value
        if on_event is not None:
            on_event(event)


class CancelToken:
    """A flag that one thread sets and the engine reads between tiles and blocks."""

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
