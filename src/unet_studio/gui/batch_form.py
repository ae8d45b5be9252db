"""What a batch reads, with which recipe, and where it writes: as one order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import (
    QAbstractItemView,
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QListWidget,
    QPushButton,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from unet_studio.batch.talk import Order
from unet_studio.errors import UNetStudioError
from unet_studio.gui.layouts import form_layout
from unet_studio.gui.messages import plain_tooltip
from unet_studio.gui.recipe_button import as_set_up

if TYPE_CHECKING:
    from unet_studio.gui.model_header import ModelHeader
    from unet_studio.recipe import Recipe

AS_SET_UP, OTHER_FILE = "As set up in Segment", "Recipe file …"
_NO_OUTPUT = "Choose a folder …"
_RESULTS = "segmented"
_LIST_ROWS = 3
_IMAGES = (
    "Images (*.tif *.tiff *.png *.jpg *.jpeg *.nii *.nii.gz);;Lists of images (*.txt);;All (*)"
)


@dataclass(frozen=True)
class Wish:
    """What the form says.

    Attributes
    ----------
    order : Order or None
        None if something is missing.
    missing : str
        What.
    """

    order: Order | None
    missing: str = ""


class BatchForm(QWidget):
    """Edits an :class:`~unet_studio.batch.talk.Order`. Folders and files can be dropped on it."""

    changed = Signal()

    def __init__(self, header: ModelHeader, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._header = header
        self._output: Path | None = None
        self.inputs = QListWidget()
        self.inputs.setAccessibleName("Images")
        self.inputs.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.inputs.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.inputs.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.inputs.setToolTip(
            "Folders (with all folders in them), image files, OME-Zarr images and plates. Drop "
            "them here, or use the buttons."
        )
        row = self.inputs.fontMetrics().height() + 6
        self.inputs.setFixedHeight(_LIST_ROWS * row)
        self.folder_button = _button("Folder …", "Add a folder, or an OME-Zarr.", self._ask_folder)
        self.files_button = _button("Files …", "Add image files.", self._ask_files)
        self.remove_button = _button(
            "Remove", "Take the chosen ones off the list, or all if none is chosen.", self._remove
        )
        self.recipe_box = QComboBox()
        self.recipe_box.setToolTip(
            "What is done with each image: as the Segment tab is set up now, or a recipe that was "
            "saved there."
        )
        self.recipe_box.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.recipe_box.setMinimumContentsLength(12)
        self.recipe_box.addItem(AS_SET_UP, "")
        self.recipe_box.addItem(OTHER_FILE, None)
        self.output_button = QPushButton(_NO_OUTPUT)
        self.output_button.setAccessibleName("Results in")
        self.overlays = _check(
            "Pictures",
            "A small picture of each result for this table, and contact sheets to scan.",
            on=True,
        )
        self.probabilities = _check(
            "Probabilities", "Write the network's probabilities, too. They take much space."
        )
        self.setAcceptDrops(True)
        self._lay_out()
        self.recipe_box.activated.connect(self._on_recipe)
        self.output_button.clicked.connect(self._ask_output)
        for box in (self.overlays, self.probabilities):
            box.toggled.connect(lambda _on: self.changed.emit())
        self._show_output()

    # -- value ----------------------------------------------------------------

    def wish(self, *, look: bool = False) -> Wish:
        """Return the order, or say what it lacks."""
        inputs = self.paths()
        if not inputs:
            return Wish(None, "Add a folder or files: they can be dropped here.")
        if (output := self.output) is None:
            return Wish(None, "Choose a folder for the results.")
        options = {
            "overlays": self.overlays.isChecked(), "probabilities": self.probabilities.isChecked()
        }  # fmt: skip
        file = self.recipe_box.currentData()
        if file:
            return Wish(Order(inputs, str(output), {}, file, look, {} if look else options))
        if self._header.recipe is None:
            return Wish(None, "Choose a recipe file.")
        try:
            recipe = self.recipe()
        except UNetStudioError as error:
            return Wish(None, str(error))
        if recipe is None:
            return Wish(None, "Choose a model.")
        values = recipe.model_dump(mode="json")
        return Wish(Order(inputs, str(output), values, "", look, {} if look else options))

    def recipe(self) -> Recipe | None:
        """Return the recipe that a run would take; None if there is no model yet.

        Raises
        ------
        RecipeError
            If the file that was chosen is none, or the Segment tab is set up to what no file is.
        """
        if file := self.recipe_box.currentData():
            from unet_studio.batch.recipe_file import load_recipe

            return load_recipe(Path(file))
        return as_set_up(self._header)()

    @property
    def output(self) -> Path | None:
        """Where results go: what the user chose, else a folder beside the first input."""
        if self._output is not None:
            return self._output
        paths = self.paths()
        if not paths:
            return None
        first = Path(paths[0])
        name = f"{first.name}_{_RESULTS}" if first.is_dir() else _RESULTS
        return first.parent / name

    def paths(self) -> list[str]:
        """Return the inputs."""
        return [self.inputs.item(i).data(Qt.ItemDataRole.UserRole) for i in range(self._count())]

    def add(self, paths: Iterable[str | Path]) -> None:
        """Add inputs; each once."""
        known = set(self.paths())
        for path in map(str, paths):
            if path in known:
                continue
            known.add(path)
            self.inputs.addItem(Path(path).name or path)
            item = self.inputs.item(self._count() - 1)
            item.setData(Qt.ItemDataRole.UserRole, path)
            item.setToolTip(plain_tooltip(path))
        self._on_change()

    def set_output(self, folder: str | Path) -> None:
        """Choose the folder for results."""
        self._output = Path(folder)
        self._on_change()

    def set_recipe_file(self, path: str | Path) -> None:
        """Choose a recipe file."""
        index = self.recipe_box.findData(str(path))
        if index < 0:
            index = self.recipe_box.count() - 1
            self.recipe_box.insertItem(index, Path(path).name, str(path))
            self.recipe_box.setItemData(
                index, plain_tooltip(str(path)), Qt.ItemDataRole.ToolTipRole
            )
        self.recipe_box.setCurrentIndex(index)
        self.changed.emit()

    # -- drops -----------------------------------------------------------------

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept files and folders."""
        if _dropped(event):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Add what was dropped."""
        self.add(_named(_dropped(event)))
        event.acceptProposedAction()

    # -- inside ------------------------------------------------------------------

    def _lay_out(self) -> None:
        buttons = QWidget()
        line = QHBoxLayout(buttons)
        line.setContentsMargins(0, 0, 0, 0)
        for button in (self.folder_button, self.files_button, self.remove_button):
            line.addWidget(button)
        line.addStretch(1)
        options = QWidget()
        row = QHBoxLayout(options)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.overlays)
        row.addWidget(self.probabilities)
        row.addStretch(1)
        fields = QWidget()
        form = form_layout(fields)
        form.addRow("Recipe", self.recipe_box)
        form.addRow("Results in", self.output_button)
        form.addRow("Also write", options)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        for widget in (self.inputs, buttons, fields):
            outer.addWidget(widget)

    def _count(self) -> int:
        return int(self.inputs.count())

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "A folder of images, or an OME-Zarr")
        if chosen:
            self.add([chosen])

    def _ask_files(self) -> None:
        chosen, _ = QFileDialog.getOpenFileNames(self, "Images", "", _IMAGES)
        self.add(_named(chosen))

    def _remove(self) -> None:
        chosen = self.inputs.selectedItems()
        if not chosen:
            self.inputs.clear()
        for item in chosen:
            self.inputs.takeItem(self.inputs.row(item))
        self._on_change()

    def _ask_output(self) -> None:
        chosen = QFileDialog.getExistingDirectory(
            self, "Folder for results", str(self.output or Path.home())
        )
        if chosen:
            self.set_output(chosen)

    def _on_recipe(self, _index: int) -> None:
        if self.recipe_box.currentText() == OTHER_FILE:
            chosen, _ = QFileDialog.getOpenFileName(self, "A recipe", "", "Recipes (*.toml)")
            self.recipe_box.setCurrentIndex(0)
            if chosen:
                self.set_recipe_file(chosen)
                return
        self.changed.emit()

    def _on_change(self) -> None:
        self._show_output()
        self.changed.emit()

    def _show_output(self) -> None:
        folder = self.output
        self.output_button.setText(_NO_OUTPUT if folder is None else folder.name or str(folder))
        self.output_button.setToolTip(
            plain_tooltip(f"{folder or 'No folder yet.'}\nClick to choose another folder.")
        )


def _dropped(event: QDropEvent) -> list[str]:
    return [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]


def _named(paths: Iterable[str]) -> list[str]:
    """Return paths as on the command line, where a list of images begins with ``@``."""
    return [f"@{path}" if path.lower().endswith(".txt") else path for path in paths]


def _button(text: str, tooltip: str, action: object) -> QToolButton:
    button = QToolButton()
    button.setText(text)
    button.setToolTip(tooltip)
    button.clicked.connect(action)
    return button


def _check(text: str, tooltip: str, *, on: bool = False) -> QCheckBox:
    box = QCheckBox(text)
    box.setToolTip(tooltip)
    box.setChecked(on)
    return box
