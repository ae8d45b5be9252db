"""Run an engine's generator beside the window, and bring everything it says back.

A plain thread fills a mailbox; a timer on the main thread empties it. napari's
``thread_worker`` is not used: its generator workers lose every RuntimeError
(out-of-memory on a GPU is one) and a generator that yields quickly freezes the
window. Here every outcome is a value, progress is thinned to the timer's rate,
and no Qt object is touched outside the main thread, so that none can be
destroyed while its thread runs.
"""

from __future__ import annotations

import atexit
import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken, Event, Started, Warned
from unet_studio.gui.garbage import old_objects_left_alone
from unet_studio.inference.freed_memory import give_back_freed_memory

Steps = Callable[[CancelToken], Generator[Event, None, Any]]
Tell = Callable[[Event], None]
# How often the window learns of progress: 20 times a second.
_POLL_MS = 50
# How long the interpreter waits at its end for a cancelled run to notice.
_EXIT_GRACE_S = 1.5


@dataclass(frozen=True)
class Telling:
    """Work that calls back with its events instead of yielding them.

    Attributes
    ----------
    work : callable
        Takes a :class:`~unet_studio.events.CancelToken` and a function to tell events
        to; returns the result. Called on the job's thread.
    """

    work: Callable[[CancelToken, Tell], Any]


@dataclass(frozen=True)
class Success:
    """The generator returned."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """The generator raised.

    Attributes
    ----------
    error : BaseException
        Without its traceback, which would keep images and tensors alive.
    details : str
        The formatted traceback, for the log.
    """

    error: BaseException
    details: str


@dataclass(frozen=True)
class Stopped:
    """The generator noticed that it was cancelled."""


Outcome = Success | Failure | Stopped


@dataclass
class _Mailbox:
    """What the thread leaves for the window: the latest stage, and its latest progress."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stage: Started | None = None
    progress: Event | None = None
    warnings: list[str] = field(default_factory=list)
    outcome: Outcome | None = None

    def put(self, event: Event) -> None:
        with self.lock:
            if isinstance(event, Warned):
                self.warnings.append(event.message)
            elif isinstance(event, Started):
                self.stage, self.progress = event, None
            else:
                self.progress = event

    def close(self, outcome: Outcome) -> None:
        with self.lock:
            self.outcome = outcome

    def take(self) -> tuple[list[Event], list[str], Outcome | None]:
        with self.lock:
            events = [event for event in (self.stage, self.progress) if event is not None]
            taken = events, self.warnings, self.outcome
            self.stage, self.progress, self.warnings = None, None, []
        return taken


class Job(QObject):
    """One piece of work on its own thread. Create, connect, then :meth:`start`.

    Parameters
    ----------
    steps : callable or Telling
        Takes a :class:`~unet_studio.events.CancelToken`, returns a generator of
        events whose return value is the result. Called on the job's thread.
    parent : QObject
        The job's signals stop when it is destroyed.
    large : bool
        Whether it needs so much memory that what it frees is given back to the system, and so
        many objects that Python's search for garbage is kept short meanwhile.

    Notes
    -----
    A job that has ended, or was abandoned, removes itself.
    """

    progressed = Signal(object)  # Started and TileDone, each at most 20 times per second
    warned = Signal(str)
    ended = Signal(object)  # Outcome; exactly once, last

    def __init__(self, steps: Steps | Telling, parent: QObject, *, large: bool = False) -> None:
        super().__init__(parent)
        self.token = CancelToken()
        self._mailbox = _Mailbox()
        self._draining = False
        # The thread knows the mailbox, not the job: it may outlive the window.
        self._thread = threading.Thread(
            target=_work,
            args=(steps, self.token, self._mailbox, large),
            daemon=True,
            name="unet-studio",
        )
        self._at_exit = partial(_finish_at_exit, self.token, self._thread)
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._drain)

    @property
    def running(self) -> bool:
        """Whether the end has not been reported yet."""
        return self._timer.isActive()

    def start(self) -> None:
        """Start the thread."""
        atexit.register(self._at_exit)
        self._thread.start()
        self._timer.start()

    def cancel(self) -> None:
        """Ask the work to stop at its next tile. ``ended`` follows."""
        self.token.cancel()

    def abandon(self) -> None:
        """Cancel, and report nothing any more: the window is going away."""
        self.token.cancel()
        self._timer.stop()
        self.deleteLater()

    def _drain(self) -> None:
        # Progress bars process events while they draw, which may call this again.
        if self._draining:
            return
        self._draining = True
        try:
            events, warnings, outcome = self._mailbox.take()
            for message in warnings:
                self.warned.emit(message)
            for event in events:
                self.progressed.emit(event)
            if outcome is not None and self.running:
                self._timer.stop()
                atexit.unregister(self._at_exit)
                self.deleteLater()  # once the slots of what follows have returned
                self.ended.emit(outcome)
        finally:
            self._draining = False


def _work(steps: Steps | Telling, token: CancelToken, mailbox: _Mailbox, large: bool) -> None:
    with old_objects_left_alone() if large else nullcontext():
        outcome = _run(steps, token, mailbox)
    mailbox.close(outcome)
    if large:
        give_back_freed_memory()


def _run(steps: Steps | Telling, token: CancelToken, mailbox: _Mailbox) -> Outcome:
    try:
        if isinstance(steps, Telling):
            value = steps.work(token, mailbox.put)
            token.raise_if_cancelled()
            return Success(value)
        with closing(steps(token)) as generator:
            while True:
                token.raise_if_cancelled()
                try:
                    mailbox.put(next(generator))
                except StopIteration as end:
                    token.raise_if_cancelled()
                    return Success(end.value)
    except Cancelled:
        return Stopped()
    except BaseException as error:
        details = "".join(traceback.format_exception(error))
        forget_frames(error)
        return Failure(error, details)


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those behind it: they hold the run's arrays."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = None
        waiting += [one.__cause__, one.__context__]


def _finish_at_exit(token: CancelToken, thread: threading.Thread) -> None:
    """Let a run end by itself before the interpreter takes its world away."""
    token.cancel()
    thread.join(_EXIT_GRACE_S)
