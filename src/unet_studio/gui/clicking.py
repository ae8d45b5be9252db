"""A session of clicks on one image of the window, from its start to its end."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.gui.click_layers import ClickLayers
from unet_studio.gui.click_pointer import Pointer
from unet_studio.gui.click_pointing import Pointing
from unet_studio.gui.click_source import ClickSource
from unet_studio.gui.click_state import Setup, told_of_way
from unet_studio.gui.layers import unwrap
from unet_studio.gui.messages import notify_warning

if TYPE_CHECKING:
    from napari.viewer import Viewer

_KEPT = "Objects that were committed are in their labels."


class Clicking(Pointing):
    """Binds mouse and keys, the session, our layers and the user's labels.

    Parameters
    ----------
    viewer : napari viewer
    setup : Setup
    parent : QObject

    Raises
    ------
    UNetStudioError
        If the image can not be read as it is.
    """

    ended = Signal(str)  # why; the session is over

    def __init__(self, viewer: Viewer, setup: Setup, parent: QObject) -> None:
        source = ClickSource(setup)
        ndim = len(source.axes)
        layers = ClickLayers(viewer, source.name, source.placement, ndim)
        super().__init__(viewer, source, layers, parent)
        self._over = False
        layers.add()
        self.pointer = Pointer(viewer, layers, self)
        self.pointer.clicked.connect(self._on_click)
        self.pointer.unclicked.connect(self.unclick)
        self.pointer.added.connect(self._on_added)
        self.pointer.drawn.connect(self._on_drawn)
        self.asker.hopeless.connect(self.end)
        viewer.layers.events.removed.connect(self._on_removed)
        source.watch(self._on_data, self._on_moved)

    def start(self) -> None:
        """Load the model; clicks made meanwhile are answered as soon as it is there."""
        self.asker.tell("info", "Loading the click model …")
        self.asker.submit("Loading the click model", self.source.open, self._on_open)

    def end(self, why: str = "", *, removing: bool = False) -> None:
        """Stop: our layers go, the user's stay; not while napari is ``removing`` layers."""
        if self._over:
            return
        self._over = True
        self.desk.close()
        self.pointer.release()
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

    # -- through slices and frames ----------------------------------------------

    def propagate(self, axis: str | None, most: int | None) -> None:
        """Follow the object through slices or frames; at most so many each way."""
        self.asker.propagating = True
        self.asker.submit(
            "Following the object",
            partial(self.source.propagate, axis, most),
            self._on_propagated,
            on_the_way=self.asker.progressed.emit,
        )
        self.asker.changed.emit()

    def _on_propagated(self, found: Any) -> None:
        self.asker.propagating = False
        self.asker.tell("good", told_of_way(found))

    # -- the window -------------------------------------------------------------

    def _on_open(self, labels: Any) -> None:
        if labels is not None:  # of a journal that was restored
            self.commits.adopt(self.source.make_labels(labels))
            self.ledger.is_restored()
        self.commits.count()
        self.asker.tell("info", f"Click on an object in {self.source.name!r}.")

    def _on_removed(self, event: Any) -> None:
        gone = unwrap(event.value)
        if gone is self.source.layer:
            self._give_up(
                f"The image {gone.name!r} was removed: clicking has stopped. {_KEPT}",
                removing=True,
            )
        elif any(gone is layer for layer in self.layers.all):
            self._give_up(
                f"The layer {gone.name!r} was removed: clicking has stopped. {_KEPT}",
                removing=True,
            )
        elif gone is self.ledger.layer:
            self.commits.set_target(None)
            self.commits.chosen.emit()

    def _on_data(self, _event: Any = None) -> None:
        if why := self.source.unlike():
            self._give_up(why)
            return
        self.asker.submit("Taking in the new image", self.source.take_in, lambda _: None)
        words = f"The pixels of {self.source.name!r} were replaced: clicks see the new ones."
        self.asker.tell("warning", words)

    def _give_up(self, why: str, *, removing: bool = False) -> None:
        self.end(why, removing=removing)
        notify_warning(why)

    def _on_moved(self, _event: Any = None) -> None:
        self.layers.move(self.source.place_anew())
