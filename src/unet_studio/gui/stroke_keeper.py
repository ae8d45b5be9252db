"""What is painted goes to the disk at once, beside the window: a killed napari loses no stroke."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.events import CancelToken, Event, Started
from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job

if TYPE_CHECKING:
    from unet_studio.training.annotations import Annotations

# From the end of a stroke to its saving; several in this time are saved at once.
_DELAY_MS = 120
_PATIENCE_MS = 5000

Read = Callable[[], "Annotations"]
Save = Callable[["Annotations"], None]


class StrokeKeeper(QObject):
    """Saves one image's annotations whenever they have changed.

    Parameters
    ----------
    read : callable
        Returns what is painted; called on a thread beside the window, and again if it was
        painted on meanwhile.
    save : callable
        Writes it, whole or not at all.
    """

    saved = Signal(object)  # Annotations
    failed = Signal(str)

    def __init__(self, read: Read, save: Save, parent: QObject) -> None:
        super().__init__(parent)
        self._read, self._save = read, save
        self._job: Job | None = None
        self._dirty = False
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DELAY_MS)
        self._timer.timeout.connect(self._start)

    @property
    def busy(self) -> bool:
        """Whether something is not on the disk yet."""
        return self._dirty or self._job is not None

    def touch(self, _event: Any = None) -> None:
        """Note that something was painted."""
        self._dirty = True
        # Not started anew by each stroke: who paints without a pause is saved, too.
        if not self._timer.isActive() and self._job is None:
            self._timer.start(_DELAY_MS)

    def flush(self) -> None:
        """Save now, and return when it is done: the window is going away."""
        self._timer.stop()
        if self._job is not None:
            self._job.abandon()
            self._job = None
            self._dirty = True
        if self._dirty:
            self._dirty = False
            try:
                self._save(self._read())
            except Exception as error:
                self.failed.emit(describe(Failure(error, ""), "Saving the strokes"))

    def _start(self) -> None:
        if not self._dirty or self._job is not None:
            return
        self._dirty = False
        read, save = self._read, self._save

        def steps(_token: CancelToken) -> Generator[Event, None, Annotations]:
            yield Started("saving strokes")
            annotations = read()
            save(annotations)
            return annotations

        self._job = Job(steps, self)
        self._job.ended.connect(self._on_end)
        self._job.start()

    def _on_end(self, outcome: Any) -> None:
        self._job = None
        if isinstance(outcome, Failure):
            self.failed.emit(describe(outcome, "Saving the strokes"))
            self._dirty = True
            self._timer.start(_PATIENCE_MS)  # the disk may be free again by then
            return
        self.saved.emit(outcome.value)
        if self._dirty:
            self._timer.start(_DELAY_MS)
