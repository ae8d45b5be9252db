"""The table of models: those that are here, and those that can be fetched."""

from __future__ import annotations

from dataclasses import dataclass

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QWidget

from unet_studio.gui.messages import plain_tooltip
from unet_studio.images.limits import readable_size
from unet_studio.models.catalogue import CATALOGUE, CatalogueEntry, search
from unet_studio.models.describing import describe, describe_file, describe_offer
from unet_studio.models.store import ModelEntry, search_models

_HEADINGS = ("Name", "Finds", "Size", "Licence", "From")
_FROM = {"bundled": "came with U-Net Studio", "store": "your folder", "file": "a file"}
# A larger file is not read on the window's thread.
_HASHED_AT_ONCE = 32 << 20


@dataclass(frozen=True)
class Row:
    """One model of the table: here, or offered. One of the two is None."""

    here: ModelEntry | None = None
    offered: CatalogueEntry | None = None

    @property
    def name(self) -> str:
        """What the model is called."""
        model = self.here or self.offered
        assert model is not None
        return model.name

    @property
    def removable(self) -> bool:
        """Whether the model is the user's own."""
        return self.here is not None and self.here.origin == "store"

    def cells(self) -> tuple[str, ...]:
        """Return the text of each column."""
        if self.here is not None:
            card, path = self.here.card, self.here.path
            finds = ", ".join(
                card.classes[1:] if card.representation == "classes" else card.classes
            )
            try:
                size = readable_size(path.stat().st_size)
            except OSError:
                size = ""
            return self.name, finds, size, card.licence, _FROM[self.here.origin]
        entry = self.offered
        assert entry is not None
        size = readable_size(entry.size) if entry.size else "unknown"
        return self.name, entry.finds, size, entry.licence, "can be fetched"

    def facts(self) -> str:
        """Return all that is known, one fact per line."""
        if self.here is not None:
            facts = describe(self.here)
            try:
                facts |= describe_file(self.here, largest=_HASHED_AT_ONCE)
            except OSError as error:  # removed meanwhile
                facts["file"] += f" ({error.strerror})"
        else:
            assert self.offered is not None
            facts = describe_offer(self.offered)
        return "\n".join(f"{key}: {value}" for key, value in facts.items())


class ModelTable(QTableWidget):
    """Shows rows; ``chosen`` is emitted with the current one, or None."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(_HEADINGS), parent)
        self._rows: list[Row] = []
        self.setHorizontalHeaderLabels(_HEADINGS)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.Stretch)
        header.setHighlightSections(False)
        self.itemSelectionChanged.connect(lambda: self.chosen.emit(self.current()))

    def current(self) -> Row | None:
        """Return the chosen row."""
        rows = {index.row() for index in self.selectedIndexes()}
        return self._rows[rows.pop()] if rows else None

    def rows(self) -> list[Row]:
        """Return all rows shown."""
        return list(self._rows)

    def show_models(self, words: str) -> None:
        """Look again which models there are; keep the chosen one."""
        before = self.current()
        here = search_models(words)
        known = {entry.name for entry in search_models("")}
        offered = [e for e in search(CATALOGUE, words) if e.name not in known]
        self._rows = [*(Row(here=e) for e in here), *(Row(offered=e) for e in offered)]
        blocked = self.blockSignals(True)
        self.clearSelection()
        self.setRowCount(len(self._rows))
        for index, row in enumerate(self._rows):
            for column, text in enumerate(row.cells()):
                item = QTableWidgetItem(text)
                item.setToolTip(plain_tooltip(text))
                self.setItem(index, column, item)
        self.blockSignals(blocked)
        self.select(before.name if before is not None else "")
        self.chosen.emit(self.current())

    def select(self, name: str) -> None:
        """Choose a model by name, or else the first."""
        names = [row.name for row in self._rows]
        if names:
            self.selectRow(names.index(name) if name in names else 0)
