"""One refinement at a time, on its own thread: what it works from, and how it ends."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from unet_studio.errors import UNetStudioError
from unet_studio.events import CancelToken, Event, Warned
from unet_studio.gui.graphics import block_triton_if_it_would_crash
from unet_studio.gui.messages import describe
from unet_studio.gui.worker import Failure, Job, Steps, Success

if TYPE_CHECKING:
    from unet_studio.gui.live_view import LiveView
    from unet_studio.images.volume import Volume
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.glimpse import Glimpse, View
    from unet_studio.training.refine import Refined
    from unet_studio.training.session import Session, Version

# Painting comes first: the training's threads get what the window leaves.
_NICENESS = 10


@dataclass(frozen=True)
class RefineRequest:
    """Everything a refinement needs, fixed at the moment of the click.

    Attributes
    ----------
    pairs : tuple of (Volume, Annotations)
    session : Session
        Where versions go; it need not exist yet.
    base : Path
        Model file to begin the session with, if it is new.
    parent : int
        Version to start from; 0 is the base.
    corrects : int or None
        Version on whose result the latest strokes were painted, where it is not the parent.
    classes : tuple of str or None
        Of a new last layer.
    channels : tuple of int or None
    seconds : float
    device : str
    name : str
        Of the new model.
    live : LiveView
    view : View or None
        What is compared in the end.
    """

    pairs: tuple[tuple[Volume, Annotations], ...]
    session: Session
    base: Path
    parent: int
    corrects: int | None
    classes: tuple[str, ...] | None
    channels: tuple[int, ...] | None
    seconds: float
    device: str
    name: str
    live: LiveView
    view: View | None = None

    @property
    def doing(self) -> str:
        """What the run does, for messages."""
        return f"Refining {self.base.stem}"


@dataclass(frozen=True, eq=False)
class RefineResult:
    """A finished refinement, on the disk already.

    Attributes
    ----------
    request : RefineRequest
    refined : Refined
    version : Version
    before, after : Glimpse or None
        What the old and the new model find in the request's view.
    """

    request: RefineRequest
    refined: Refined
    version: Version
    before: Glimpse | None
    after: Glimpse | None


@dataclass
class Latest:
    """Annotations that were painted since the training began, handed from thread to thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: tuple[Annotations, ...] | None = None

    def put(self, annotations: Sequence[Annotations]) -> None:
        """Leave them for the training."""
        with self.lock:
            self.waiting = tuple(annotations)

    def take(self) -> tuple[Annotations, ...] | None:
        """Return what is new, None if nothing."""
        with self.lock:
            waiting, self.waiting = self.waiting, None
        return waiting


class RefineRunner(QObject):
    """Starts refinements and tells how they end; refuses a second one while one is going."""

    started = Signal()
    progressed = Signal(object)  # Started or Trained
    warned = Signal(str)
    succeeded = Signal(object)  # RefineResult
    failed = Signal(str)
    cancelled = Signal()
    ended = Signal()  # after each of the three above

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._request: RefineRequest | None = None
        self._stop = CancelToken()
        self._latest = Latest()

    @property
    def running(self) -> bool:
        """Whether a training is going; a cancelled one is, until its step is done."""
        return self._job is not None

    @property
    def ending(self) -> bool:
        """Whether it was asked to stop or cancelled."""
        return self._job is not None and (self._stop.cancelled or self._job.token.cancelled)

    @property
    def request(self) -> RefineRequest | None:
        """What the training that is going works from."""
        return self._request

    def start(self, request: RefineRequest) -> bool:
        """Start. Returns False, and does nothing, if one is going."""
        if self.running:
            return False
        self._request, self._stop, self._latest = request, CancelToken(), Latest()
        work = refine_job(request, self._stop, self._latest.take)
        self._job = Job(work, self, large=True)
        self._job.progressed.connect(self.progressed)
        self._job.warned.connect(self.warned)
        self._job.ended.connect(self._on_end)
        self._job.start()
        self.started.emit()
        return True

    def repaint(self, annotations: Sequence[Annotations]) -> None:
        """Hand over what was painted meanwhile; one for each of the request's images."""
        if self._request is not None and len(annotations) == len(self._request.pairs):
            self._latest.put(annotations)
            self._request.live.hurry()

    def stop(self) -> None:
        """Ask the training to end here and keep what was learned so far."""
        self._stop.cancel()

    def cancel(self) -> None:
        """Ask the training to end here and keep nothing."""
        if self._job is not None:
            self._job.cancel()

    def abandon(self) -> None:
        """Stop and report nothing: the window is going away."""
        if self._job is not None:
            self._job.abandon()
            self._job = self._request = None

    def _on_end(self, outcome: object) -> None:
        request = self._request
        self._job = self._request = None
        assert request is not None
        if isinstance(outcome, Success):
            self.succeeded.emit(outcome.value)
        elif isinstance(outcome, Failure):
            self.failed.emit(describe(outcome, request.doing))
        else:
            self.cancelled.emit()
        self.ended.emit()


def refine_job(
    request: RefineRequest,
    stop: CancelToken,
    latest: Callable[[], tuple[Annotations, ...] | None],
) -> Steps:
    """Return the work, for a job's thread. torch is imported there, not here."""

    def run(token: CancelToken) -> Generator[Event, None, RefineResult]:
        block_triton_if_it_would_crash()
        step_back()
        from unet_studio.images.kept_blocks import keep_blocks
        from unet_studio.models.model import model_from_file
        from unet_studio.training.fit_settings import FitSettings
        from unet_studio.training.refine import refine_steps
        from unet_studio.training.retarget import retarget
        from unet_studio.training.session import open_session

        session = request.session
        if not session.versions:
            open_session(session.folder, model_from_file(request.base))
        base = session.load(request.parent)
        if request.classes is not None and request.classes != base.card.classes:
            base = retarget(base, request.classes)
        corrects, lost = _corrected(request, base.card)
        if lost:
            yield Warned(lost)
        pairs = tuple((keep_blocks(volume), painted) for volume, painted in request.pairs)
        refined = yield from refine_steps(
            pairs, base, FitSettings(seconds=request.seconds),
            channels=request.channels, device=request.device, name=request.name,
            corrects=corrects, token=token, stop=stop, latest=latest, watch=request.live.watch,
        )  # fmt: skip
        token.raise_if_cancelled()
        # On the disk before anybody hears of it: nothing finished is ever lost.
        version = session.add(refined.model, request.parent, refined.verdict.as_dict())
        before, after = _compared(request, base, refined, token)
        return RefineResult(request, refined, version, before, after)

    return run


def _corrected(request: RefineRequest, card: ModelCard) -> tuple[Model | None, str]:
    """Return the model on whose result was painted, or why nothing is learned from it."""
    from unet_studio.training.accepted import same_kind

    if request.corrects is None:
        return None, ""
    try:
        model = request.session.load(request.corrects)
    except UNetStudioError as error:
        return None, f"{error} What it found where you did not paint is not learned."
    # Else it found other things than those that are wanted now.
    return (model if same_kind(model.card, card) else None), ""


def _compared(
    request: RefineRequest, base: Any, refined: Refined, token: CancelToken
) -> tuple[Glimpse | None, Glimpse | None]:
    """Return what both models find in the view that was on the screen."""
    view = request.live.wanted or request.view
    if view is None:
        return None, None
    from unet_studio.training.exercises import open_exercise
    from unet_studio.training.glimpse import look
    from unet_studio.training.retarget import is_retargeted

    volume, annotations = request.pairs[view.exercise]

    def look_with(model: Any) -> Glimpse:
        exercise = open_exercise(volume, annotations, model.card, request.channels)
        return look(model.network, exercise, view, model.card, check=token.raise_if_cancelled)

    # What a last layer of random weights finds is nothing to compare with.
    return None if is_retargeted(base) else look_with(base), look_with(refined.model)


def step_back() -> None:
    """Lower the priority of this thread, and of those that torch will start from it.

    On Linux each thread has its own; elsewhere nothing is done.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
