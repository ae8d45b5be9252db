"""One thread that does what a session of clicks is asked, in order, beside the window.

The session belongs to this thread alone, and the thread lives as long as the session:
torch keeps its own threads for each thread that calls it. Answers come back in the order
of the questions, through a timer on the window's thread; nothing of Qt is touched here.
"""

from __future__ import annotations

import atexit
import queue
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.events import CancelToken
from unet_studio.gui.graphics import block_triton_if_it_would_crash
from unet_studio.gui.worker import Failure, Success, forget_frames

_POLL_MS = 8
_EXIT_GRACE_S = 1.5
Tell = Callable[[Any], None]


@dataclass(frozen=True)
class Task:
    """One thing to do.

    Attributes
    ----------
    doing : str
        As a noun phrase, for messages.
    work : callable
        Takes a :class:`~unet_studio.events.CancelToken` and a function to tell of the way;
        called on the desk's thread.
    then : callable
        Takes what ``work`` returned; called on the window's thread, before the next task
        is begun.
    on_the_way : callable, optional
        Takes the newest that ``work`` told of; called on the window's thread.
    """

    doing: str
    work: Callable[[CancelToken, Tell], Any]
    then: Callable[[Any], None]
    on_the_way: Callable[[Any], None] | None = None


@dataclass
class _Tray:
    """What lies between the two threads."""

    tasks: queue.SimpleQueue[tuple[Task, CancelToken] | None] = field(
        default_factory=queue.SimpleQueue
    )
    lock: threading.Lock = field(default_factory=threading.Lock)
    told: list[Any] = field(default_factory=list)
    answers: deque[Success | Failure] = field(default_factory=deque)

    def tell(self, value: Any) -> None:
        with self.lock:
            self.told[:] = [value]  # only the newest counts

    def answer(self, value: Success | Failure) -> None:
        with self.lock:
            self.answers.append(value)

    def take(self) -> tuple[list[Any], Success | Failure | None]:
        with self.lock:
            told, self.told = self.told, []
            return told, self.answers.popleft() if self.answers else None


class Desk(QObject):
    """Does tasks one after the other.

    Parameters
    ----------
    parent : QObject
    """

    failed = Signal(object, str)  # Failure, what was being done
    busy_changed = Signal(bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._tray = _Tray()
        self._waiting: deque[Task] = deque()
        self._current: tuple[Task, CancelToken] | None = None
        self._closed = self._draining = False
        self._thread = threading.Thread(
            target=_serve, args=(self._tray,), daemon=True, name="unet-studio-clicks"
        )
        self._timer = QTimer(self)
        self._timer.setInterval(_POLL_MS)
        self._timer.timeout.connect(self._drain)
        self._at_exit: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being done, or waits to be."""
        return self._current is not None or bool(self._waiting)

    def submit(self, task: Task, *, first: bool = False) -> None:
        """Do something once everything before it is done.

        Parameters
        ----------
        task : Task
        first : bool
            Before all that waits: it belongs to what was just done.
        """
        if self._closed:
            return
        if self._at_exit is None:
            self._thread.start()
            self._at_exit = partial(_finish_at_exit, self._tray, self._thread)
            atexit.register(self._at_exit)
        was_busy = self.busy
        (self._waiting.appendleft if first else self._waiting.append)(task)
        if not self._draining:  # else it is done at the end of what is being finished
            self._next()
        if not was_busy:
            self.busy_changed.emit(True)

    def cancel(self) -> None:
        """Ask what is being done to stop."""
        if self._current is not None:
            self._current[1].cancel()

    def close(self) -> None:
        """Stop, and answer nothing any more. The thread ends with what it is doing."""
        if self._closed:
            return
        self._closed = True
        self._waiting.clear()
        self.cancel()
        self._current = None
        self._timer.stop()
        self._tray.tasks.put(None)
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)

    def _next(self) -> None:
        if self._current is None and self._waiting:
            self._current = self._waiting.popleft(), CancelToken()
            self._tray.tasks.put(self._current)
            self._timer.start()

    def _drain(self) -> None:
        # What is called below may process events, which may call this again.
        if self._draining or self._current is None:
            return
        self._draining = True
        try:
            told, answer = self._tray.take()
            task, _ = self._current
            if told and task.on_the_way is not None:
                task.on_the_way(told[0])
            if answer is not None:
                self._finish(task, answer)
        finally:
            self._draining = False

    def _finish(self, task: Task, answer: Success | Failure) -> None:
        try:
            if isinstance(answer, Success):
                task.then(answer.value)
            else:
                self.failed.emit(answer, task.doing)
        except Exception as error:  # what was done stays done; the next one still has its turn
            self.failed.emit(_failure(error), task.doing)
        if self._closed:
            return
        self._current = None
        self._next()  # also if ``then`` asked for more
        if self._current is None:
            self._timer.stop()
            self.busy_changed.emit(False)


def _serve(tray: _Tray) -> None:
    block_triton_if_it_would_crash()
    while (job := tray.tasks.get()) is not None:
        task, token = job
        try:
            answer: Success | Failure = Success(task.work(token, tray.tell))
        except BaseException as error:
            answer = _failure(error)
        tray.answer(answer)
        del job, task, token, answer  # an idle thread keeps no images alive


def _failure(error: BaseException) -> Failure:
    details = "".join(traceback.format_exception(error))
    forget_frames(error)
    return Failure(error, details)


def _finish_at_exit(tray: _Tray, thread: threading.Thread) -> None:
    tray.tasks.put(None)
    thread.join(_EXIT_GRACE_S)
