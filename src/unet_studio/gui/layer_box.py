"""Combo boxes of a viewer's layers: any kind, and its images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from unet_studio.gui.choice_box import keep_narrow
from unet_studio.gui.layers import is_overlay, unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Image, Layer
    from napari.viewer import Viewer

_EMPTY = "Open an image first"
_CHOOSE = "Choose …"


class LayerBox(QComboBox):
    """Some layers of a viewer; follows additions, removals, their order and new names.

    Parameters
    ----------
    viewer : napari viewer
    suits : callable
        Whether a layer is listed.
    parent : QWidget, optional
    none : str
        What the first entry says, which is no layer; empty to have layers only.
    """

    layer_changed = Signal()

    def __init__(
        self,
        viewer: Viewer,
        suits: Callable[[Layer], bool],
        parent: QWidget | None = None,
        *,
        none: str = "",
    ) -> None:
        super().__init__(parent)
        self._viewer, self._suits, self._none = viewer, suits, none
        self._layers: list[Any] = []
        self._named: list[Layer] = []
        self._current: Any = None
        keep_narrow(self)
        for emitter in self._emitters():
            emitter.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.refresh()

    def value(self) -> Any:
        """Return the chosen layer, None if it is none."""
        return self._current

    def set_value(self, layer: Layer | None) -> None:
        """Choose a layer that is listed."""
        layer = unwrap(layer)
        for index, candidate in enumerate(self._layers):
            if candidate is layer:
                self.setCurrentIndex(index)

    def refresh(self, _event: Any = None) -> None:
        """List the layers anew."""
        # The last one in the viewer's list is drawn on top, and comes first here.
        found = [unwrap(layer) for layer in reversed(list(self._viewer.layers))]
        for layer in found:
            if all(layer is not known for known in self._named):
                layer.events.name.connect(self.refresh)
        self._named = found
        suited = [layer for layer in found if self._suits(layer)]
        self._layers = [None, *suited] if self._none else list(suited)
        blocked = self.blockSignals(True)
        self.clear()
        self.addItems([self._none if x is None else str(x.name) for x in self._layers])
        self._dress(found)
        kept = [i for i, layer in enumerate(self._layers) if layer is self._current]
        self.setCurrentIndex(kept[0] if kept else 0)
        self.blockSignals(blocked)
        self._on_index(self.currentIndex())

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        for emitter in self._emitters():
            emitter.disconnect(self.refresh)
        for layer in self._named:
            layer.events.name.disconnect(self.refresh)
        self._named = []

    def _dress(self, found: list[Layer]) -> None:
        """Show what else there is to say of a new list, made of these layers of the viewer."""

    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered

    def _on_index(self, index: int) -> None:
        current = self._layers[index] if 0 <= index < len(self._layers) else None
        if current is not self._current:
            self._current = current
            self.layer_changed.emit()


class ImageLayerBox(LayerBox):
    """The images, and by itself the one that is selected in the viewer's list.

    Parameters
    ----------
    viewer : napari viewer
    parent : QWidget, optional
    optional : bool
        Nothing is chosen until the user does; the selection in the list does not count.
    """

    def __init__(
        self, viewer: Viewer, parent: QWidget | None = None, *, optional: bool = False
    ) -> None:
        super().__init__(viewer, _is_image, parent, none=_CHOOSE if optional else "")
        self.setToolTip("The image to segment. Selecting an image in the layer list chooses it.")
        if not optional:
            viewer.layers.selection.events.active.connect(self._follow_active)
            self._follow_active()

    def value(self) -> Image | None:
        """Return the chosen image, None if there is none."""
        return super().value()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        super().disconnect_viewer()
        if not self._none:
            self._viewer.layers.selection.events.active.disconnect(self._follow_active)

    def _dress(self, _found: list[Layer]) -> None:
        if not self._layers:
            self.addItem(_EMPTY)
        self.setEnabled(any(layer is not None for layer in self._layers))

    def _follow_active(self, _event: Any = None) -> None:
        self.set_value(self._viewer.layers.selection.active)


def _is_image(layer: Layer) -> bool:
    from napari.layers import Image

    return isinstance(layer, Image) and not is_overlay(layer)
