"""Asks a session of clicks, and shows its state before anybody acts on the answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from unet_studio.gui.click_desk import Desk, Task
from unet_studio.gui.click_layers import ClickLayers, marks_of
from unet_studio.gui.click_source import ClickSource
from unet_studio.gui.click_state import State
from unet_studio.gui.messages import describe, notify_error, notify_warning
from unet_studio.gui.worker import Failure

if TYPE_CHECKING:
    from unet_studio.clicks.propagation import Propagation
    from unet_studio.clicks.session import ClickSession

_FOLLOWING = "Following the object"


class Asker(QObject):
    """Holds the desk, and what it answered last.

    Parameters
    ----------
    source : ClickSource
    layers : ClickLayers
    parent : QObject

    Attributes
    ----------
    state : State or None
        The session as the last answer left it; None before the first.
    """

    changed = Signal()  # what can be done, or is being done
    told = Signal(str, str)  # severity, text
    progressed = Signal(int)  # planes that a propagation has done
    hopeless = Signal(str)  # the session could not be opened: why

    def __init__(self, source: ClickSource, layers: ClickLayers, parent: QObject) -> None:
        super().__init__(parent)
        self.source, self.layers = source, layers
        self.state: State | None = None
        self._propagating = False
        self._noticed: set[str] = set()  # notices that were told
        self.desk = Desk(self)
        self.desk.failed.connect(self._on_failure)
        self.desk.busy_changed.connect(self._on_busy)

    @property
    def propagating(self) -> bool:
        """Whether the object is being followed through planes."""
        return self._propagating

    def ask(
        self, doing: str, act: Callable[[ClickSession], Any], then: Callable[[Any], None],
        *, first: bool = False,
    ) -> None:  # fmt: skip
        """Ask the session something.

        Parameters
        ----------
        doing : str
            A noun phrase, for messages.
        act : callable
            Takes the session; called on the desk's thread.
        then : callable
            Takes the answer; called on the window's thread, when the new state is shown.
        first : bool
            Before all that waits.
        """
        self.submit(doing, partial(self.source.ask, act), then, first=first)

    def submit(
        self, doing: str, work: Callable[..., tuple[Any, State]], then: Callable[[Any], None],
        *, on_the_way: Callable[[Any], None] | None = None, first: bool = False,
    ) -> None:  # fmt: skip
        """Do some work that gives back its answer and the session's state."""

        def finish(answer: tuple[Any, State]) -> None:
            value, state = answer
            self._show(state)
            then(value)
            self.changed.emit()

        self.desk.submit(Task(doing, work, finish, on_the_way), first=first)

    def propagate(
        self, axis: str | None, most: int | None, then: Callable[[Propagation], None]
    ) -> None:
        """Follow the object to other planes; at most so many each way."""

        def finish(found: Propagation) -> None:
            self._propagating = False
            then(found)

        self._propagating = True
        work = partial(self.source.propagate, axis, most)
        tell = self.progressed.emit
        self.submit(_FOLLOWING, work, finish, on_the_way=tell)
        self.changed.emit()

    def tell(self, severity: str, text: str) -> str:
        """Tell the user something, and, once, what the session gives notice of.

        Parameters
        ----------
        severity : {"info", "good", "warning", "error"}
        text : str

        Returns
        -------
        str
            All that was told.
        """
        notices = [notice for notice in self.source.notices if notice not in self._noticed]
        self._noticed.update(notices)
        if notices and severity != "error":
            severity = "warning"
        text = "\n".join([text, *notices])
        self.told.emit(severity, text)
        for notice in notices:  # the next answer takes the place of what was told
            notify_warning(notice)
        return text

    def _show(self, state: State) -> None:
        before, self.state = self.state, state
        marks = marks_of(state.pointed, self.source.axes)
        if marks != self.layers.marks:
            self.layers.show_marks(marks)
        if before is None or [id(p.mask) for p in before.planes] != [
            id(p.mask) for p in state.planes
        ]:
            self.layers.show_proposal(state.planes)

    def _on_busy(self, _busy: bool) -> None:
        self.changed.emit()

    def _on_failure(self, failure: Failure, doing: str) -> None:
        if doing == _FOLLOWING:
            self._propagating = False
        message = describe(failure, f"{doing} on {self.source.name!r}")
        told = self.tell("error", message)
        notify_error(message)
        self.changed.emit()
        if self.state is None:
            self.hopeless.emit(told)
