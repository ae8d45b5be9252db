"""What is clicked, with which model, and where objects go: the rows of the Click tab."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from unet_studio.clicks.commit import POLICIES
from unet_studio.errors import UNetStudioError
from unet_studio.gui.axes_box import AxesBox
from unet_studio.gui.choice_box import choice_box, fill_box
from unet_studio.gui.click_state import OVERLAPS, POLICY_TITLES, Setup
from unet_studio.gui.click_target import fits
from unet_studio.gui.labels_box import LabelsBox
from unet_studio.gui.layer_box import ImageLayerBox
from unet_studio.gui.layers import layer_axes, volume_from_layer
from unet_studio.gui.layouts import form_layout, show_row
from unet_studio.gui.placement import placement_of
from unet_studio.models.store import list_models

if TYPE_CHECKING:
    from napari.layers import Image, Layer
    from napari.viewer import Viewer

    from unet_studio.gui.model_header import ModelHeader
    from unet_studio.models.store import ModelEntry

_MOST_CHANNELS = 3  # that a click model is shown


class ClickForm(QWidget):
    """Edits a :class:`~unet_studio.gui.click_state.Setup`, and where objects go.

    Parameters
    ----------
    viewer : napari viewer
    header : ModelHeader
        Its model counts if it is one that answers clicks.
    """

    changed = Signal()

    def __init__(self, viewer: Viewer, header: ModelHeader, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._header = header
        self._entries: list[ModelEntry] = []
        self._fixed: Image | None = None
        self.layer_box = ImageLayerBox(viewer)
        self.layer_box.setToolTip(
            "The image whose objects you click. Selecting an image in the layer list chooses it."
        )
        self.axes_box = AxesBox("What the dimensions of this image are.")
        self.channels_box = choice_box("Which channels the click model is shown: up to three.")
        self.model_box = choice_box(
            "The network that answers clicks. A model that was refined for clicks is listed, too."
        )
        self.labels_box = LabelsBox(viewer, self._suits)
        self.policy_box = choice_box("Where a new object meets objects that are there.")
        for name, title in POLICY_TITLES.items():
            self.policy_box.addItem(title, name)
            self.policy_box.setItemData(self.policy_box.count() - 1, POLICIES[name], 3)
        self._lay_out()
        self.layer_box.layer_changed.connect(self._on_layer)
        self.axes_box.chosen.connect(self._on_reading)
        header.changed.connect(self.list_models)
        self.list_models()
        self._on_layer()

    def _lay_out(self) -> None:
        # The box enables itself when layers come and go: its frame is what is disabled.
        self._frame = QWidget()
        inside = QVBoxLayout(self._frame)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addWidget(self.layer_box)
        self._form = form_layout(self)
        for title, field in (
            ("Layer", self._frame), ("Axes", self.axes_box), ("Channels", self.channels_box),
            ("Click model", self.model_box), ("Objects go to", self.labels_box),
            (OVERLAPS, self.policy_box),
        ):  # fmt: skip
            self._form.addRow(title, field)

    def value(self) -> Setup | None:
        """Return what a session would begin with; None without an image or a click model."""
        layer, index = self.layer_box.value(), self.model_box.currentIndex()
        if layer is None or not 0 <= index < len(self._entries):
            return None
        device = self._header.value()
        channels = self.channels_box.currentData()
        return Setup(
            layer,
            self.axes_box.axes_of(layer),
            None if channels is None else tuple(channels),
            self._entries[index].path,
            "auto" if device is None else device.device,
        )

    def problem(self) -> str:
        """Return why clicking can not start; empty if it can."""
        layer = self.layer_box.value()
        if layer is None:
            return "Open an image (File › Open Sample has some)."
        if not self._entries:
            return "There is no model that answers clicks. Open one above."
        try:
            volume_from_layer(layer, self.axes_box.axes_of(layer))
        except UNetStudioError as error:
            return str(error)
        return ""

    def fix(self, layer: Image | None) -> None:
        """Keep to one image while it is clicked, whatever is selected in the layer list."""
        self._fixed = layer
        for field in (self._frame, self.axes_box, self.channels_box, self.model_box):
            field.setEnabled(layer is None)

    def list_models(self) -> None:
        """List the models that answer clicks; choose the header's if it is one of them."""
        chosen = self._header.value()
        kept = self.model_box.currentData()
        self._entries = [e for e in list_models() if e.card.clicks is not None]
        paths = [str(e.path) for e in self._entries]
        if chosen is not None and chosen.entry.card.clicks is not None:
            if str(chosen.entry.path) not in paths:
                self._entries.append(chosen.entry)
                paths.append(str(chosen.entry.path))
            kept = str(chosen.entry.path)
        blocked = self.model_box.blockSignals(True)
        self.model_box.clear()
        for entry, path in zip(self._entries, paths, strict=True):
            self.model_box.addItem(entry.name, path)
        self.model_box.setCurrentIndex(paths.index(kept) if kept in paths else 0)
        self.model_box.blockSignals(blocked)
        self.changed.emit()

    def disconnect_viewer(self) -> None:
        """Stop following the viewer."""
        self.layer_box.disconnect_viewer()
        self.labels_box.disconnect_viewer()

    def _suits(self, layer: Layer) -> bool:
        """Whether objects of the image that is chosen can go to a layer."""
        image = self._fixed or self.layer_box.value()
        if image is None:
            return False
        try:
            chosen = self.axes_box.axes_of(image)
            info = volume_from_layer(image, chosen).info
            names = layer_axes(image, chosen)[: int(image.ndim)]
            inserted = placement_of(image, names, info.channels).inserted
        except UNetStudioError:
            return False
        shape = tuple(info.length(a) for a in info.axes.names.replace("C", ""))
        return fits(layer, shape, inserted)

    def _on_layer(self) -> None:
        if self._fixed is not None and self.layer_box.value() is not self._fixed:
            self.layer_box.set_value(self._fixed)
            return
        ambiguous = self.axes_box.offer(self.layer_box.value())
        show_row(self._form, self.axes_box, ambiguous)
        self._on_reading()

    def _on_reading(self) -> None:
        """Offer what follows from how the image is read: channels, and labels that fit."""
        layer, count = self.layer_box.value(), 1
        if layer is not None and not layer.rgb:
            try:
                count = volume_from_layer(layer, self.axes_box.axes_of(layer)).info.channels
            except UNetStudioError:
                count = 1
        first = ", ".join(map(str, range(min(count, _MOST_CHANNELS))))
        entries: list[tuple[str, Any]] = [(f"{first} together" if count > 1 else first, None)]
        entries += [(f"Channel {i}", (i,)) for i in range(count)]
        fill_box(self.channels_box, entries, None)
        show_row(self._form, self.channels_box, count > 1)
        self.labels_box.refresh()
        self.changed.emit()
