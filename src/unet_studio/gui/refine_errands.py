"""Short work for the Refine tab beside the window: a look at a view, and where to paint next."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from unet_studio.events import CancelToken, Event, Started
from unet_studio.gui.graphics import block_triton_if_it_would_crash
from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job, Steps, Success

if TYPE_CHECKING:
    from unet_studio.images.volume import Volume
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.glimpse import Glimpse, View
    from unet_studio.training.where_next import Suggestion

Pairs = Sequence[tuple["Volume", "Annotations"]]


class Errands(QObject):
    """One errand at a time; a new one takes the place of the one that is going."""

    failed = Signal(str)
    busy_changed = Signal()

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._job: Job | None = None

    @property
    def busy(self) -> bool:
        """Whether one is going."""
        return self._job is not None

    def start(self, steps: Steps, doing: str, done: Callable[[Any], None]) -> None:
        """Start one; ``done`` is called with what it returns."""
        self.stop()
        self._job = Job(steps, self)

        def on_end(outcome: object) -> None:
            self._job = None
            if isinstance(outcome, Success):
                done(outcome.value)
            elif isinstance(outcome, Failure):
                self.failed.emit(describe(outcome, doing))
            self.busy_changed.emit()

        self._job.ended.connect(on_end)
        self._job.start()
        self.busy_changed.emit()

    def stop(self) -> None:
        """Abandon the one that is going."""
        if self._job is not None:
            self._job.abandon()
            self._job = None


def looking(model: Path, pairs: Pairs, view: View, channels: tuple[int, ...] | None) -> Steps:
    """Return the work of a look at one view."""

    def run(token: CancelToken) -> Generator[Event, None, Glimpse]:
        block_triton_if_it_would_crash()
        from unet_studio.models.model import model_from_file
        from unet_studio.training.exercises import open_exercise
        from unet_studio.training.glimpse import look

        yield Started("looking")
        loaded = model_from_file(model)
        volume, annotations = pairs[view.exercise]
        exercise = open_exercise(
            volume, annotations, loaded.card, channels, token.raise_if_cancelled
        )
        return look(
            loaded.network, exercise, view, loaded.card, flips=True,
            check=token.raise_if_cancelled,
        )  # fmt: skip

    return run


def suggesting(
    model: Path, pairs: Pairs, seen: Sequence[Suggestion], channels: tuple[int, ...] | None
) -> Steps:
    """Return the work of finding where to paint next."""

    def run(token: CancelToken) -> Generator[Event, None, Suggestion | None]:
        block_triton_if_it_would_crash()
        from unet_studio.models.model import model_from_file
        from unet_studio.training.exercises import open_exercise
        from unet_studio.training.regions import filled
        from unet_studio.training.where_next import suggest_place

        yield Started("looking for a place")
        loaded, check = model_from_file(model), token.raise_if_cancelled
        exercises = [open_exercise(v, filled(a), loaded.card, channels, check) for v, a in pairs]
        return suggest_place(loaded.network, exercises, loaded.card, seen, check)

    return run
