"""A progress bar with the one piece of work behind it: fetching, importing, making, writing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QProgressBar, QWidget

from unet_studio.events import CancelToken, Event, Started, TileDone
from unet_studio.gui.graphics import block_triton_if_it_would_crash
from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job, Success, Tell, Telling
from unet_studio.images.limits import readable_size

# A progress bar counts in 32 bits; a file may be larger.
_STEPS = 1000

Work = Callable[[CancelToken, Tell], Any]


class WorkBar(QProgressBar):
    """Runs one piece of work beside the window and shows how far it is.

    At its end ``ended`` is emitted, and then either what was given to :meth:`start` is
    called or one of ``failed`` and ``cancelled`` is emitted. Steps that the work counts
    are bytes.
    """

    warned = Signal(str)
    ended = Signal()  # free for other work
    failed = Signal(str, object)  # for the user; the error
    cancelled = Signal(str)  # what was being done

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._doing = ""
        self._done: Callable[[Any], None] | None = None
        self.setTextVisible(True)

    @property
    def running(self) -> bool:
        """Whether the end has not been reported yet."""
        return self._job is not None

    def text(self) -> str:
        """Return what is written on the bar; Qt writes nothing while the end is unknown."""
        return self.format() if self.maximum() == 0 else super().text()

    def start(self, doing: str, work: Work, done: Callable[[Any], None]) -> None:
        """Start some work, unless there is some.

        Parameters
        ----------
        doing : str
            What it is, as a noun phrase, for messages.
        work : callable
            Called on a thread with a :class:`~unet_studio.events.CancelToken` and a
            function to tell events to.
        done : callable
            Called in the window with what the work returned.
        """
        if self.running:
            return

        def guarded(token: CancelToken, tell: Tell) -> Any:
            block_triton_if_it_would_crash()  # torch may be imported by it
            return work(token, tell)

        self._doing, self._done = doing, done
        self._job = Job(Telling(guarded), self)
        self._job.progressed.connect(self._on_progress)
        self._job.warned.connect(self.warned)
        self._job.ended.connect(self._on_end)
        self.setRange(0, 0)
        self.setFormat(doing)
        self._job.start()

    def stop(self) -> None:
        """Ask the work to stop."""
        if self._job is not None:
            self._job.cancel()
            self.setFormat("stopping …")

    def abandon(self) -> None:
        """Stop, and report nothing: the window is going away."""
        if self._job is not None:
            self._job.abandon()
            self._job = self._done = None

    def _on_progress(self, event: Event) -> None:
        if self._job is None or self._job.token.cancelled:
            return
        if isinstance(event, Started):
            self.setRange(0, _STEPS if event.total else 0)
            self.setFormat(event.stage)
        elif isinstance(event, TileDone) and event.total:
            self.setRange(0, _STEPS)
            self.setValue(_STEPS * event.done // event.total)
            self.setFormat(f"{readable_size(event.done)} of {readable_size(event.total)}")
        elif isinstance(event, TileDone):
            self.setFormat(readable_size(event.done))

    def _on_end(self, outcome: object) -> None:
        done, doing = self._done, self._doing
        self._job = self._done = None
        self.setRange(0, 0)
        self.ended.emit()
        if isinstance(outcome, Success):
            assert done is not None
            done(outcome.value)
        elif isinstance(outcome, Failure):
            self.failed.emit(describe(outcome, doing), outcome.error)
        else:
            self.cancelled.emit(doing)
