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
    from unet_studio.clicks.session import ClickSession


class Asker(QObject):
    """Holds the desk, and what it answered last.

    Parameters
    ----------
    source : ClickSource
    layers : ClickLayers
    parent : QObject
    """

    changed = Signal()  # what can be done, or is being done
    told = Signal(str, str)  # severity, text
    progressed = Signal(int)  # planes that a propagation has done
    hopeless = Signal(str)  # the session could not be opened

    def __init__(self, source: ClickSource, layers: ClickLayers, parent: QObject) -> None:
        super().__init__(parent)
        self.source, self.layers = source, layers
        self.state: State | None = None
        self.propagating = False
        self._noticed = 0  # notices of the session that were told
        self.desk = Desk(self)
        self.desk.failed.connect(self._on_failure)
        self.desk.busy_changed.connect(self._on_busy)

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

    def tell(self, severity: str, text: str) -> None:
        """Tell the user something, and, once, what the session gives notice of.

        Parameters
        ----------
        severity : {"info", "good", "warning", "error"}
        text : str
        """
        notices = () if self.state is None else self.state.notices[self._noticed :]
        self._noticed += len(notices)
        if notices and severity != "error":
            severity = "warning"
        self.told.emit(severity, "\n".join([text, *notices]))
        for notice in notices:  # the next answer takes the place of what was told
            notify_warning(notice)

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
        self.propagating = False
        message = describe(failure, f"{doing} on {self.source.name!r}")
        self.tell("error", message)
        notify_error(message)
        self.changed.emit()
        if self.state is None:
            self.hopeless.emit(message)
