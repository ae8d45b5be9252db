"""Objects made again from kept probabilities, beside the window, while an option moves."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job, Success

if TYPE_CHECKING:
    from unet_studio.events import CancelToken, Event
    from unet_studio.inference.prediction import Prediction
    from unet_studio.pipeline import Segmentation
    from unet_studio.recipe import ObjectsMethod

_DEBOUNCE_MS = 120


class Preview(QObject):
    """Keeps one prediction and relabels it on request; only the latest request counts."""

    made = Signal(object, float)  # Segmentation, seconds
    failed = Signal(str)
    busy_changed = Signal(bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._prediction: Prediction | None = None
        self._measure = True
        self._wanted: ObjectsMethod | None = None
        self._job: Job | None = None
        self._began = 0.0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_DEBOUNCE_MS)
        self._timer.timeout.connect(self._start)

    @property
    def available(self) -> bool:
        """Whether there is a prediction to work from."""
        return self._prediction is not None

    @property
    def busy(self) -> bool:
        """Whether a request waits or is being worked on."""
        return self._timer.isActive() or self._job is not None

    def keep(self, prediction: Prediction, measure: bool) -> None:
        """Work from this prediction from now on."""
        self.clear()
        self._prediction = prediction
        self._measure = measure

    def clear(self) -> None:
        """Forget the prediction and everything asked for."""
        self._timer.stop()
        self._wanted = self._prediction = None
        if self._job is not None:
            self._job.abandon()
            self._job = None
            self.busy_changed.emit(False)

    def request(self, method: ObjectsMethod) -> None:
        """Ask for objects; answered by ``made`` or ``failed`` unless asked again before."""
        if self._prediction is None:
            return
        self._wanted = method
        self._timer.start()

    def _start(self) -> None:
        if self._job is not None or self._wanted is None or self._prediction is None:
            return  # the running job starts the next one when it ends
        steps = _relabelling(self._prediction, self._wanted, self._measure)
        self._wanted = None
        self._job = Job(steps, self)
        self._job.ended.connect(self._on_end)
        self._began = time.perf_counter()
        self._job.start()
        self.busy_changed.emit(True)

    def _on_end(self, outcome: object) -> None:
        self._job = None
        if self._wanted is None:  # else a newer request makes this answer stale
            if isinstance(outcome, Success):
                self.made.emit(outcome.value, time.perf_counter() - self._began)
            elif isinstance(outcome, Failure):
                self.failed.emit(describe(outcome, "Making objects with these options"))
        self.busy_changed.emit(False)
        if self._wanted is not None and not self._timer.isActive():
            self._start()


def _relabelling(prediction: Prediction, method: ObjectsMethod, measure: bool) -> Any:
    def steps(token: CancelToken) -> Generator[Event, None, Segmentation]:
        from unet_studio.events import Started
        from unet_studio.pipeline import relabel

        yield Started("making objects")
        return relabel(prediction, method, measure=measure, token=token)

    return steps
