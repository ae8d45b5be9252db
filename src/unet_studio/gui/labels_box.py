"""A combo box of the labels layers that objects of an image can go to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from unet_studio.gui.click_target import is_computed
from unet_studio.gui.layers import unwrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels, Layer
    from napari.viewer import Viewer

_NEW = "New labels"
_WHERE = (
    "Where committed objects go: labels of this image, or new ones. They are written with "
    "the next free number, and Ctrl+Z in the labels layer takes them back."
)


class LabelsBox(QComboBox):
    """Follows additions, removals and new names; nothing but new labels is chosen by itself.

    Parameters
    ----------
    viewer : napari viewer
    suits : callable
        Whether a layer can be chosen.
    """

    layer_changed = Signal()

    def __init__(
        self, viewer: Viewer, suits: Callable[[Layer], bool], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._viewer, self._suits = viewer, suits
        self._layers: list[Labels | None] = [None]
        self._named: list[Layer] = []
        self._current: Labels | None = None
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(12)
        for emitter in self._emitters():
            emitter.connect(self.refresh)
        self.currentIndexChanged.connect(self._on_index)
        self.refresh()

    def value(self) -> Labels | None:
        """Return the chosen layer, None for new labels."""
        return self._current

    def set_value(self, layer: Labels | None) -> None:
        """Choose a layer that is listed."""
        for index, candidate in enumerate(self._layers):
            if candidate is layer:
                self.setCurrentIndex(index)

    def refresh(self, _event: Any = None) -> None:
        """List the layers anew."""
        found = [unwrap(layer) for layer in reversed(list(self._viewer.layers))]
        for layer in found:
            if all(layer is not known for known in self._named):
                layer.events.name.connect(self.refresh)
        self._named = found
        self._layers = [None, *(layer for layer in found if self._suits(layer))]
        blocked = self.blockSignals(True)
        self.clear()
        self.addItems([_NEW if layer is None else str(layer.name) for layer in self._layers])
        self.setToolTip(_tooltip(found))
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

    def _emitters(self) -> tuple[Any, ...]:
        events = self._viewer.layers.events
        return events.inserted, events.removed, events.reordered

    def _on_index(self, index: int) -> None:
        current = self._layers[index] if 0 <= index < len(self._layers) else None
        if current is not self._current:
            self._current = current
            self.layer_changed.emit()


def _tooltip(layers: list[Layer]) -> str:
    """Say where objects go, and why labels that somebody may look for are not listed."""
    from napari.layers import Labels

    computed = [repr(str(x.name)) for x in layers if isinstance(x, Labels) and is_computed(x)]
    if not computed:
        return _WHERE
    return (
        f"{_WHERE}\nNot listed: {', '.join(computed)}. A dask array is computed anew whenever it "
        "is read, and can not keep objects. Save the layer, and open it again, or pass "
        "numpy or zarr labels."
    )
