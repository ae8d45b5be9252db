"""Further layers as the channels of one image: three MRI sequences, two stains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFormLayout, QWidget

from unet_studio.gui.layer_box import ImageLayerBox
from unet_studio.gui.layouts import show_row

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

# Models of more channels are handed one layer with a channel axis.
_MOST_ROWS = 7


class FurtherChannels(QObject):
    """Rows of a form, one for each channel beyond the first.

    Parameters
    ----------
    viewer : napari viewer
    form : QFormLayout
        Rows are put into it once they are needed.
    below : QWidget
        Field of the row that they follow.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, form: QFormLayout, below: QWidget) -> None:
        super().__init__(form.parentWidget())
        self._viewer, self._form, self._below = viewer, form, below
        self.boxes: list[ImageLayerBox] = []
        self._wanted = 0

    def offer(self, count: int) -> None:
        """Show rows for so many further channels."""
        self._wanted = count if count <= _MOST_ROWS else 0
        while len(self.boxes) < self._wanted:
            self._add()
        for index, box in enumerate(self.boxes):
            show_row(self._form, box, index < self._wanted)

    def value(self) -> tuple[Image, ...]:
        """Return the layers chosen; none of them unless all are."""
        layers = [box.value() for box in self.boxes[: self._wanted]]
        return () if None in layers else tuple(layer for layer in layers if layer is not None)

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        for box in self.boxes:
            box.disconnect_viewer()

    def _add(self) -> None:
        box = ImageLayerBox(self._viewer, self._form.parentWidget(), optional=True)
        title = f"Channel {len(self.boxes) + 2}"
        box.setAccessibleName(title)
        box.setToolTip(
            "The model looks at several channels, and the layer above holds one. Choose the "
            "layer of this channel; it has to lie on the first. What the channels are, the "
            "model's description says."
        )
        row = self._form.getWidgetPosition(self.boxes[-1] if self.boxes else self._below)[0]
        self._form.insertRow(row + 1, title, box)
        box.layer_changed.connect(self.changed)
        self.boxes.append(box)
