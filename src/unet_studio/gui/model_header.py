"""Which model, and where it runs: shared by all tabs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from unet_studio.errors import ModelError
from unet_studio.gui.layouts import form_layout
from unet_studio.gui.messages import notify_error, plain_tooltip
from unet_studio.inference.devices import likely_devices
from unet_studio.models.card import ModelCard
from unet_studio.models.files import SUFFIX
from unet_studio.models.store import ModelEntry, find_model, list_models

if TYPE_CHECKING:
    from collections.abc import Callable

    from unet_studio.gui.model_manager import ModelManager
    from unet_studio.recipe import Recipe

_REPRESENTATIONS = {
    "binary": "foreground",
    "classes": "classes",
    "objects": "touching objects",
}
_DEVICE_TITLES = {"auto": "Automatic", "cpu": "CPU", "cuda": "GPU (CUDA)", "mps": "GPU (Apple)"}


@dataclass(frozen=True)
class ModelChoice:
    """A model and where it runs.

    Attributes
    ----------
    entry : ModelEntry
    device : str
        As in recipes: "auto", "cpu", "cuda", "cuda:1", "mps".
    """

    entry: ModelEntry
    device: str


class ModelHeader(QWidget):
    """Edits a :class:`ModelChoice`."""

    changed = Signal()

    def __init__(self, device: str = "auto", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        # What the Segment tab is set up to do, for the tabs that do it elsewhere.
        self.recipe: Callable[[], Recipe | None] | None = None
        self._entries: list[ModelEntry] = []
        self._opened: list[ModelEntry] = []
        self._models = QComboBox()
        self._models.setToolTip("The network that finds the objects.")
        self._models.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self._models.setMinimumContentsLength(10)
        self._open = QToolButton()
        self._open.setText("Open …")
        self._open.setToolTip(
            f"Open a model file ({SUFFIX}). Dropping it on the window does the same."
        )
        self.manage = QToolButton()
        self.manage.setText("☰")  # words would make the dock wider
        self.manage.setAccessibleName("Manage models")
        self.manage.setToolTip("Models: see, search, fetch, import and remove them.")
        self._manager: ModelManager | None = None
        self._card_line = QLabel()
        self._card_line.setTextFormat(Qt.TextFormat.PlainText)
        self._card_line.setWordWrap(True)
        self._card_line.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self._device = QComboBox()
        self._device.setToolTip(
            "Where to compute. Automatic takes the GPU if there is one. Preferences › Plugins "
            "sets what is chosen when the widget opens."
        )
        self._lay_out()
        self.refresh()
        self._list_devices(device)
        self._models.currentIndexChanged.connect(self._on_model)
        self._device.currentIndexChanged.connect(self._on_model)
        self._open.clicked.connect(self._ask_for_file)
        self.manage.clicked.connect(self.open_manager)

    def value(self) -> ModelChoice | None:
        """Return the choice, or None if there is no model at all."""
        entry = self._entry()
        return None if entry is None else ModelChoice(entry, self._device.currentData())

    def refresh(self) -> None:
        """Look again which models there are; keep the chosen one."""
        current = self._entry()
        # What answers clicks has a tab of its own and can not be run on an image.
        runnable = (entry for entry in list_models() if entry.card.clicks is None)
        self._entries = [*runnable, *self._opened]
        blocked = self._models.blockSignals(True)
        self._models.clear()
        for entry in self._entries:
            self._models.addItem(entry.name)
            self._models.setItemData(
                self._models.count() - 1,
                plain_tooltip(str(entry.path)),
                Qt.ItemDataRole.ToolTipRole,
            )
        if not self._entries:
            self._models.addItem("No model yet")
        paths = [e.path for e in self._entries]
        self._models.setCurrentIndex(
            paths.index(current.path) if current is not None and current.path in paths else 0
        )
        self._models.setEnabled(bool(self._entries))
        self._models.blockSignals(blocked)
        self._describe()
        if current != self._entry():
            self.changed.emit()

    def open_file(self, path: str | Path, name: str = "") -> ModelEntry:
        """Add a model file to the list and choose it.

        Parameters
        ----------
        path : str or Path
        name : str
            What to call it; its file's name by default.

        Raises
        ------
        ModelError
            If it is missing, damaged, or no model file. The choice stays.
        """
        entry = find_model(Path(path))
        entry = replace(entry, name=name or entry.name)
        self._opened = [e for e in self._opened if e.path != entry.path] + [entry]
        self.refresh()
        last = max(i for i, e in enumerate(self._entries) if e.path == entry.path)
        self._models.setCurrentIndex(last)
        self._on_model()
        return entry

    def choose(self, path: Path) -> bool:
        """Choose a model of the list by its file; return whether it is there."""
        for index, entry in enumerate(self._entries):
            if entry.path == path:
                self._models.setCurrentIndex(index)
                return True
        return False

    def open_manager(self) -> ModelManager:
        """Show the window that manages models."""
        if self._manager is None:
            from unet_studio.gui.model_manager import ModelManager

            self._manager = ModelManager(self)
            self._manager.changed.connect(self._on_store)
        self._manager.show()
        self._manager.raise_()
        return self._manager

    def ask_consent(self, reference: str) -> None:
        """Ask in the manager whether a model that is a program may run."""
        try:
            entry = find_model(reference)
        except ModelError:
            return  # removed meanwhile
        manager = self.open_manager()
        manager.table.select(entry.name)
        manager.ask_consent(entry)

    def stop_work(self) -> None:
        """Stop what the manager of models is doing, and close it."""
        if self._manager is not None:
            self._manager.shut_down()
            self._manager = None

    def set_device(self, name: str) -> None:
        """Choose a device, if it is listed."""
        index = self._device.findData(name)
        if index >= 0:
            self._device.setCurrentIndex(index)

    def select(self, name: str) -> None:
        """Choose a model of the list by name."""
        index = self._models.findText(name)
        if index >= 0:
            self._models.setCurrentIndex(index)

    def _on_store(self, name: str) -> None:
        self.refresh()
        if name:
            self.select(name)

    def _entry(self) -> ModelEntry | None:
        index = self._models.currentIndex()
        return self._entries[index] if 0 <= index < len(self._entries) else None

    def _lay_out(self) -> None:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self._models, 1)
        line.addWidget(self._open)
        line.addWidget(self.manage)
        form_widget = QWidget()
        form = form_layout(form_widget)
        form.addRow("Model", row)
        form.addRow("", self._card_line)
        form.addRow("Device", self._device)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(form_widget)

    def _list_devices(self, chosen: str) -> None:
        names = ["auto", *sorted(likely_devices(), key=lambda name: name != "cpu")]
        for name in names:
            self._device.addItem(_DEVICE_TITLES.get(name, name), name)
        self.set_device(chosen)

    def _on_model(self, _index: int = 0) -> None:
        self._describe()
        self.changed.emit()

    def _describe(self) -> None:
        entry = self._entry()
        if entry is None:
            self._card_line.setText(f"Open a model file ({SUFFIX}), or drop one on the window.")
            return
        self._card_line.setText(describe_card(entry.card))
        self._card_line.setToolTip(plain_tooltip(card_tooltip(entry)))

    def _ask_for_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Open a model file", "", f"U-Net Studio models (*{SUFFIX})"
        )
        if not path:
            return
        try:
            self.open_file(path)
        except ModelError as error:
            notify_error(str(error))


def describe_card(card: ModelCard) -> str:
    """Return what a model takes and gives, in one line."""
    channels = (
        "RGB or grey"
        if card.colour
        else f"{card.in_channels} channel{'s' * (card.in_channels != 1)}"
    )
    what = ", ".join(card.classes[1:] if card.representation == "classes" else card.classes)
    return f"{what} · {_REPRESENTATIONS[card.representation]} · {card.ndim}D · {channels}"


def card_tooltip(entry: ModelEntry) -> str:
    """Return the rest of a model's card."""
    card = entry.card
    lines = [
        card.description,
        f"Network: {card.architecture}, {card.parameters:,} weights",
        f"Trained on: {card.training_data}" if card.training_data else "",
        f"Licence: {card.licence}",
        f"Cite: {card.citation}" if card.citation else "",
        f"File: {entry.path}",
    ]
    return "\n".join(line for line in lines if line)
