"""A session of clicks on one image of the window, from its start to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.gui.click_actions import Actions
from unet_studio.gui.click_asker import Asker
from unet_studio.gui.click_commits import Commits
from unet_studio.gui.click_layers import ClickLayers
from unet_studio.gui.click_pointer import Pointer
from unet_studio.gui.click_source import ClickSource
from unet_studio.gui.layers import unwrap
from unet_studio.gui.messages import notify_warning

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.gui.click_desk import Desk
    from unet_studio.gui.click_ledger import Ledger
    from unet_studio.gui.click_state import Setup, State

_KEPT = "Objects that were committed are in their labels."


class Clicking(QObject):
    """Holds the parts of a session together: image, layers, questions, actions, labels.

    Parameters
    ----------
    viewer : napari viewer
    setup : Setup
    parent : QObject

    Attributes
    ----------
    source : ClickSource
        The image, and the session on it.
    layers : ClickLayers
        Of ours.
    commits : Commits
        The way into the user's labels.
    actions : Actions
        What the user can do.

    Raises
    ------
    UNetStudioError
        If the image can not be read as it is.
    """

    changed = Signal()  # what can be done, or is being done
    told = Signal(str, str)  # severity, text
    progressed = Signal(int)  # planes that a propagation has done
    ended = Signal(str)  # why; the session is over

    def __init__(self, viewer: Viewer, setup: Setup, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._over = viewer, False
        self.source = ClickSource(setup)
        place, ndim = self.source.placement, len(self.source.axes)
        self.layers = ClickLayers(viewer, self.source.name, place, ndim)
        self._asker = Asker(self.source, self.layers, self)
        self.commits = Commits(viewer, self._asker, self)
        self.actions = Actions(viewer, self._asker, self.commits, self)
        self.layers.add()
        self._pointer = Pointer(viewer, self.layers, self.actions)
        self._connect()

    def _connect(self) -> None:
        for part in (self._asker, self.commits, self.actions):
            part.changed.connect(self.changed)
        self._asker.told.connect(self.told)
        self._asker.progressed.connect(self.progressed)
        self._asker.hopeless.connect(self.end)
        self._pointer.clicked.connect(self.actions.click_at)
        self._pointer.unclicked.connect(self.actions.unclick)
        self._pointer.added.connect(self.actions.take_point)
        self._pointer.drawn.connect(self.actions.take_shape)
        self._viewer.layers.events.removed.connect(self._on_removed)
        self.source.watch(self._on_data, self._on_moved)

    # -- what it is like ----------------------------------------------------------

    @property
    def desk(self) -> Desk:
        """What answers the questions."""
        return self._asker.desk

    @property
    def state(self) -> State | None:
        """The session as the last answer left it; None before the first."""
        return self._asker.state

    @property
    def propagating(self) -> bool:
        """Whether the object is being followed through planes."""
        return self._asker.propagating

    @property
    def ledger(self) -> Ledger:
        """Which labels hold the objects."""
        return self.commits.ledger

    @property
    def counted(self) -> int:
        """Objects that are in their labels."""
        return self.commits.counted

    # -- from start to end --------------------------------------------------------

    def start(self) -> None:
        """Load the model; clicks made meanwhile are answered as soon as it is there."""
        self._asker.tell("info", "Loading the click model …")
        self._asker.submit("Loading the click model", self.source.open, self._on_open)

    def end(self, why: str = "", *, removing: bool = False) -> None:
        """Stop: our layers go, the user's stay; not while napari is ``removing`` layers."""
        if self._over:
            return
        self._over = True
        self.desk.close()
        self._pointer.release()
        self.source.unwatch()
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self.ledger.release()
        layers = self.layers

        def remove() -> None:  # PyQt would hold on to a method only as long as others do
            layers.remove()

        if removing:  # perhaps several at once, which napari looks up one after the other
            QTimer.singleShot(0, remove)
        else:
            remove()
        self.ended.emit(why)

    def _on_open(self, labels: Any) -> None:
        if labels is not None:  # of a journal that was restored
            self.commits.restore(labels)
        self.commits.count()
        self._asker.tell("info", f"Click on an object in {self.source.name!r}.")

    def _on_removed(self, event: Any) -> None:
        gone = unwrap(event.value)
        if gone is self.source.layer:
            what = "image"
        elif any(gone is layer for layer in self.layers.all):
            what = "layer"
        else:
            if gone is self.ledger.layer:
                self.commits.lose_target()
            return
        why = f"The {what} {gone.name!r} was removed: clicking has stopped. {_KEPT}"
        self._give_up(why, removing=True)

    def _on_data(self, _event: Any = None) -> None:
        if why := self.source.unlike():
            self._give_up(why)
            return
        self._asker.submit("Taking in the new image", self.source.take_in, lambda _: None)
        words = f"The pixels of {self.source.name!r} were replaced: clicks see the new ones."
        self._asker.tell("warning", words)

    def _give_up(self, why: str, *, removing: bool = False) -> None:
        self.end(why, removing=removing)
        notify_warning(why)

    def _on_moved(self, _event: Any = None) -> None:
        self.layers.move(self.source.place_anew())
