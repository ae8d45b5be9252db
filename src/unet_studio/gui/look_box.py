"""Which overlay is drawn over the image: what a model finds, or where it is unsure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QVBoxLayout, QWidget

from unet_studio.gui.layouts import form_layout
from unet_studio.gui.overlay import Overlay

if TYPE_CHECKING:
    from napari.viewer import Viewer

_CHOICES = (("Prediction", "foreground"), ("Uncertainty", "uncertainty"), ("Nothing", ""))
_NOTHING = 2


class LookBox(QWidget):
    """A combo box and the overlay that it rules."""

    asked = Signal()  # there is nothing to draw yet: somebody has to look

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.overlay = Overlay(viewer)
        self.shown = QComboBox()
        for title, data in _CHOICES:
            self.shown.addItem(title, data)
        self.shown.setToolTip(
            "What is drawn over the part of the image on the screen: what the model finds there, "
            "or where it is unsure. Renewed every few seconds while it trains."
        )
        self.shown.setCurrentIndex(_NOTHING)
        row = QWidget()
        form_layout(row).addRow("Overlay", self.shown)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(row)
        self.busy = False
        self.shown.currentIndexChanged.connect(self._on_shown)

    @property
    def wanted(self) -> bool:
        """Whether anything is to be drawn."""
        return bool(self.shown.currentData())

    def begin(self) -> None:
        """Draw what comes from now on; of a training at least the prediction."""
        self.overlay.begin()
        if not self.wanted:
            blocked = self.shown.blockSignals(True)
            self.shown.setCurrentIndex(0)
            self.overlay.kind = self.shown.currentData()
            self.shown.blockSignals(blocked)

    def swipe(self, edge: float) -> None:
        """Move the edge between new and old, range [0, 1]."""
        self.overlay.swipe = edge
        self.overlay.draw()

    def _on_shown(self, _index: int) -> None:
        if not self.wanted:
            self.overlay.hide()
            return
        self.overlay.kind = self.shown.currentData()
        self.overlay.begin()
        if self.overlay.glimpse is not None or self.busy:
            self.overlay.draw()
        else:
            self.asked.emit()
