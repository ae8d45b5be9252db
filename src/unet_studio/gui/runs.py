"""One run at a time: its thread, its progress bar, and a watch on its source layer."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from unet_studio.errors import ConsentNeeded
from unet_studio.gui.graphics import block_triton_if_it_would_crash
from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job, Steps, Success

if TYPE_CHECKING:
    from pathlib import Path

    from unet_studio.events import CancelToken, Event
    from unet_studio.gui.layers import LayerSnapshot
    from unet_studio.gui.progress import RunProgress
    from unet_studio.pipeline import Segmentation
    from unet_studio.recipe import Recipe
    from unet_studio.streaming_results import StreamedSegmentation


@dataclass(frozen=True)
class RunRequest:
    """Everything a run needs, fixed at the moment of the click.

    Attributes
    ----------
    snapshot : LayerSnapshot
    recipe : Recipe
    model_name : str
    known_warnings : tuple of str
        Shown to the user before the run; not worth repeating after it.
    target : Path or None
        Where the labels go, if the run goes through the disk.
    """

    snapshot: LayerSnapshot
    recipe: Recipe
    model_name: str
    known_warnings: tuple[str, ...] = ()
    target: Path | None = None

    @property
    def doing(self) -> str:
        """What the run does, for messages."""
        return f"Segmenting {self.snapshot.name!r} with {self.model_name}"

    @property
    def left_behind(self) -> str:
        """What to say of a complete result on the disk that is not shown; mostly nothing."""
        if self.target is None or not self.target.exists():
            return ""
        return f" What was written stays in {self.target}; delete it if you have no use for it."

    @property
    def result_name(self) -> str:
        """Name of the labels layer."""
        return f"{self.snapshot.name} · {self.model_name}"

    def steps(self) -> Steps:
        """Return the work, for a job's thread. torch is imported there, not here."""
        volume, recipe = self.snapshot.volume, self.recipe
        if self.target is not None:
            from unet_studio.gui.disk import streamed_steps

            return streamed_steps(volume, recipe, self.target)

        def run(token: CancelToken) -> Generator[Event, None, Segmentation]:
            block_triton_if_it_would_crash()
            from unet_studio.pipeline import segment_steps

            return (yield from segment_steps(volume, recipe, token=token))

        return run


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    request : RunRequest
    segmentation : Segmentation or StreamedSegmentation
    seconds : float
        From the click to the labels.
    warnings : tuple of str
        Those the user has not seen yet.
    """

    request: RunRequest
    segmentation: Segmentation | StreamedSegmentation
    seconds: float
    warnings: tuple[str, ...]


class Runner(QObject):
    """Starts runs and tells how they end; refuses a second one while one is going."""

    started = Signal()
    progressed = Signal(object)  # Started or TileDone
    succeeded = Signal(object)  # RunResult
    failed = Signal(str)
    consent_needed = Signal(str)  # after "failed": the model, as the recipe names it
    cancelled = Signal(str)  # what is left on the disk, if anything
    ended = Signal()  # after each of the three above

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._request: RunRequest | None = None
        self._progress: RunProgress | None = None
        self._began = 0.0
        self._warnings: list[str] = []
        self._broken = ""

    @property
    def running(self) -> bool:
        """Whether a run is going; a cancelled one is, until its tile is done."""
        return self._job is not None

    @property
    def cancelling(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._job is not None and self._job.token.cancelled

    def start(self, request: RunRequest) -> bool:
        """Start a run. Returns False, and does nothing, if one is going."""
        if self.running:
            return False
        from unet_studio.gui.progress import RunProgress

        self._request, self._broken, self._warnings = request, "", []
        self._began = time.perf_counter()
        self._job = Job(request.steps(), self, large=True)
        self._job.progressed.connect(self._on_progress)
        self._job.warned.connect(self._warnings.append)
        self._job.ended.connect(self._on_end)
        self._progress = RunProgress(request.result_name, self.cancel)
        self._watch(True)
        self._job.start()
        self.started.emit()
        return True

    def cancel(self) -> None:
        """Ask the run to stop at its next tile."""
        if self._job is not None and not self._job.token.cancelled:
            self._job.cancel()
            self.progressed.emit(None)

    def abandon(self) -> None:
        """Stop the run and report nothing of it: the window is going away."""
        if self._job is not None:
            self._job.abandon()
            self._clean_up()

    def _watch(self, watching: bool) -> None:
        layer = self._request.snapshot.layer if self._request else None
        if layer is not None:
            emitter = layer.events.data
            (emitter.connect if watching else emitter.disconnect)(self._on_source_data)

    def _on_source_data(self, _event: Any = None) -> None:
        request = self._request
        if request is not None and not self._broken and request.snapshot.replaced_by_other_shape():
            self._broken = (
                f"The layer {request.snapshot.name!r} changed while running: it now holds an "
                "image of another shape. The run was stopped and nothing was added. Run again "
                "to segment the new image."
            )
            self.cancel()

    def _on_progress(self, event: Any) -> None:
        if self._progress is not None:
            self._progress.show_event(event)
        if not self.cancelling:
            self.progressed.emit(event)

    def _on_end(self, outcome: object) -> None:
        request, broken, warnings = self._request, self._broken, self._warnings
        seconds = time.perf_counter() - self._began
        self._clean_up()
        assert request is not None
        snapshot = request.snapshot
        if (
            not broken
            and isinstance(outcome, Success)
            and not snapshot.copied
            and snapshot.edited()
        ):
            broken = (
                f"The pixels of the layer {snapshot.name!r} changed while running, and it is too "
                "large to be copied. The result was dropped. Run again."
            )
        if broken:
            self.failed.emit(broken + request.left_behind)
        elif isinstance(outcome, Success):
            segmentation = outcome.value
            seen = dict.fromkeys([*segmentation.warnings, *warnings])
            fresh = tuple(w for w in seen if w not in request.known_warnings)
            self.succeeded.emit(RunResult(request, segmentation, seconds, fresh))
        elif isinstance(outcome, Failure):
            self.failed.emit(describe(outcome, request.doing))
            if isinstance(outcome.error, ConsentNeeded):
                self.consent_needed.emit(request.recipe.model)
        else:
            self.cancelled.emit(request.left_behind)
        self.ended.emit()

    def _clean_up(self) -> None:
        self._watch(False)
        if self._progress is not None:
            self._progress.close()
        self._job = self._request = self._progress = None
        self._warnings, self._broken = [], ""
