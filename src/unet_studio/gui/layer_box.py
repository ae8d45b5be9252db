"""A combo box of a viewer's image layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from unet_studio.gui.layers import is_overlay, unwrap

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

_EMPTY = "Open an image first"
_CHOOSE = "Choose …"


class ImageLayerBox(QComboBox):
    """Follows additions, removals, new names, and the image that is selected in the list.

    Parameters
    ----------
    viewer : napari viewer
    parent : QWidget, optional
    optional : bool
        Nothing is chosen until the user does; the selection in the list does not count.
    """

    layer_changed = Signal()

    def __init__(
        self, viewer: Viewer, parent: QWidget | None = None, *, optional: bool = False
    ) -> None:
        super().__init__(parent)
        self._viewer, self._optional = viewer, optional
        self._layers: list[Image | None] = []
        self._named: list[Image] = []
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        self.setToolTip("The image to segment. Selecting an image in the layer list chooses it.")
        events = viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.connect(self._refresh)
        if not optional:
            viewer.layers.selection.events.active.connect(self._follow_active)
        self.currentIndexChanged.connect(self._on_index)
        self._current: Image | None = None
        self._refresh()
        if not optional:
            self._follow_active()

    def value(self) -> Image | None:
        """Return the chosen layer."""
        return self._current

    def set_value(self, layer: Image | None) -> None:
        """Choose a layer that is in the viewer."""
        layer = unwrap(layer)
        for index, candidate in enumerate(self._layers):
            if candidate is layer:
                self.setCurrentIndex(index)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        events = self._viewer.layers.events
        for emitter in (events.inserted, events.removed, events.reordered):
            emitter.disconnect(self._refresh)
        if not self._optional:
            self._viewer.layers.selection.events.active.disconnect(self._follow_active)
        for layer in self._named:
            layer.events.name.disconnect(self._refresh)
        self._named = []

    def _refresh(self, _event: Any = None) -> None:
        from napari.layers import Image

        layers = [unwrap(layer) for layer in self._viewer.layers]
        # The last one in the list is drawn on top, and comes first here.
        images = [x for x in reversed(layers) if isinstance(x, Image) and not is_overlay(x)]
        self._layers = [None, *images] if self._optional else list(images)
        for layer in images:
            if all(layer is not known for known in self._named):
                layer.events.name.connect(self._refresh)
        self._named = images
        blocked = self.blockSignals(True)
        self.clear()
        names = [_CHOOSE if layer is None else str(layer.name) for layer in self._layers]
        self.addItems(names or [_EMPTY])
        kept = [i for i, layer in enumerate(self._layers) if layer is self._current]
        self.setCurrentIndex(kept[0] if kept else 0)
        self.setEnabled(bool(images))
        self.blockSignals(blocked)
        self._on_index(self.currentIndex())

    def _follow_active(self, _event: Any = None) -> None:
        self.set_value(self._viewer.layers.selection.active)

    def _on_index(self, index: int) -> None:
        current = self._layers[index] if 0 <= index < len(self._layers) else None
        if current is not self._current:
            self._current = current
            self.layer_changed.emit()
