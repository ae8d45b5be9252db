"""A combo box of what the dimensions of an image may be, where that can not be told."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QWidget

from unet_studio.axes import AXIS_WORDS
from unet_studio.errors import UNetStudioError
from unet_studio.gui.choice_box import fill_box, keep_narrow
from unet_studio.gui.layers import axes_candidates

if TYPE_CHECKING:
    from napari.layers import Image


class AxesBox(QComboBox):
    """Offers the readings of one image at a time, and remembers what was chosen for each.

    Parameters
    ----------
    tooltip : str
    parent : QWidget, optional
    """

    chosen = Signal()  # by the user

    def __init__(self, tooltip: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(tooltip)
        keep_narrow(self)
        self._layer: Image | None = None
        self._known: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self.currentIndexChanged.connect(self._on_index)

    def axes_of(self, layer: Image | None) -> str | None:
        """Return what was chosen for an image, None if nothing was or there is no doubt."""
        return None if layer is None else self._known.get(layer)

    def offer(self, layer: Image | None) -> bool:
        """List the readings of an image; returns whether there is more than one.

        What was chosen before is forgotten if the image can not be read so any more.
        """
        self._layer = layer
        try:
            candidates = axes_candidates(layer) if layer is not None else ()
        except UNetStudioError:
            candidates = ()
        ambiguous = len(candidates) > 1
        if layer is not None and not (ambiguous and self.axes_of(layer) in candidates):
            self._known.pop(layer, None)
        entries = [("Choose …", None)] + [(axes_title(c), c) for c in candidates]
        fill_box(self, entries if ambiguous else [], self.axes_of(layer))
        return ambiguous

    def _on_index(self, _index: int) -> None:
        if self._layer is None:
            return
        axes = self.currentData()
        if axes is None:
            self._known.pop(self._layer, None)
        else:
            self._known[self._layer] = axes
        self.chosen.emit()


def axes_title(axes: str) -> str:
    """Return axes in words, such as ``ZYX: depth, height, width``."""
    return f"{axes}: {', '.join(AXIS_WORDS[letter] for letter in axes)}"
