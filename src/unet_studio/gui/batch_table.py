"""The table of a batch: one row for each image, filled while it runs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSize, Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView, QWidget

from unet_studio.gui.messages import plain_tooltip

HEADINGS = ("Image", "State", "Objects", "Time")
# What a state is called, and what it means.
STATES = {
    "waiting": ("to do", "Not done yet."),
    "there": ("there", "A result of an earlier run is there, perhaps with other settings. "
              "It is kept if recipe, model and image are the same, and done again if not. "
              "Double-click to see it on its image."),
    "problem": ("problem", ""),
    "done": ("done", "Done in this run. Double-click to see it on its image."),
    "skipped": ("complete", "Was complete already. Double-click to see it on its image."),
    "failed": ("failed", ""),
}  # fmt: skip
BAD = ("problem", "failed")
# With a result that can be opened and plotted, whatever the form says now.
FINISHED = ("there", "done", "skipped")
_WRONG = QColor(230, 90, 80)
_ICON, _ROW = 44, 50
_KEPT_ICONS = 300


@dataclass(frozen=True)
class Row:
    """What is known of one image.

    Attributes
    ----------
    name, path : str
    series : int
    state : str
        A key of :data:`STATES`.
    words : str
        What the image is, or why it can not be done.
    labels, table, overlay : str
        Paths of its result.
    objects : int
    seconds : float
    sizes : tuple of float, or None
        Quartiles of the sizes of its objects.
    unit : str
    """

    name: str
    path: str = ""
    series: int = 0
    state: str = "waiting"
    words: str = ""
    labels: str = ""
    table: str = ""
    overlay: str = ""
    objects: int = 0
    seconds: float = 0.0
    sizes: tuple[float, float, float] | None = None
    unit: str = ""

    @property
    def openable(self) -> bool:
        """Whether there is a result to look at."""
        return bool(self.labels) and bool(self.path)


def row_after(row: Row, event: dict[str, Any]) -> Row:
    """Return a row as it is after an event of the batch's process."""
    if event["event"] == "looked":
        state = "problem" if event["problem"] else "there" if event["there"] else "waiting"
        words = event["problem"] or event["words"]
    else:
        state, words = event["state"], event["reason"] or row.words
    sizes = event.get("sizes")
    return replace(
        row,
        path=event.get("path") or row.path,
        series=event.get("series", row.series),
        state=state,
        words=words,
        labels=event["labels"],
        table=event["table"],
        overlay=event["overlay"],
        objects=event["objects"],
        seconds=event.get("seconds", 0.0),
        sizes=tuple(sizes) if sizes else None,
        unit=event["unit"],
    )


class BatchModel(QAbstractTableModel):
    """Rows by name, in the order in which they came."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []
        self._places: dict[str, int] = {}
        self._icons: OrderedDict[str, QIcon] = OrderedDict()

    def rows(self) -> list[Row]:
        """Return all rows."""
        return list(self._rows)

    def row(self, index: int) -> Row:
        """Return one row."""
        return self._rows[index]

    def clear(self) -> None:
        """Remove all rows."""
        self.beginResetModel()
        self._rows, self._places = [], {}
        self._icons.clear()
        self.endResetModel()

    def take(self, events: Iterable[dict[str, Any]]) -> None:
        """Take what the process told of images: new ones are added, known ones change."""
        fresh: list[Row] = []
        changed: list[int] = []
        for event in events:
            place = self._places.get(event["name"])
            if place is None:
                self._places[event["name"]] = len(self._rows) + len(fresh)
                fresh.append(row_after(Row(event["name"]), event))
            elif place < len(self._rows):
                self._icons.pop(self._rows[place].overlay, None)
                self._rows[place] = row_after(self._rows[place], event)
                changed.append(place)
            else:
                at = place - len(self._rows)
                fresh[at] = row_after(fresh[at], event)
        if changed:
            first, last = self.index(min(changed), 0), self.index(max(changed), len(HEADINGS) - 1)
            self.dataChanged.emit(first, last)
        if fresh:
            start = len(self._rows)
            self.beginInsertRows(QModelIndex(), start, start + len(fresh) - 1)
            self._rows += fresh
            self.endInsertRows()

    def rowCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of rows."""
        return 0 if parent is not None and parent.isValid() else len(self._rows)

    def columnCount(self, parent: QModelIndex | None = None) -> int:
        """Return the number of columns."""
        return 0 if parent is not None and parent.isValid() else len(HEADINGS)

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        """Return a column's heading."""
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return HEADINGS[section]
        return None

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Return what a cell shows."""
        row, column = self._rows[index.row()], index.column()
        if role == Qt.ItemDataRole.DisplayRole:
            return _cells(row)[column]
        if role == Qt.ItemDataRole.DecorationRole and column == 0 and row.overlay:
            return self._icon(row.overlay)
        if role == Qt.ItemDataRole.ToolTipRole:
            return _tooltip(row, column)
        if role == Qt.ItemDataRole.ForegroundRole and column == 1 and row.state in BAD:
            return _WRONG
        if role == Qt.ItemDataRole.TextAlignmentRole and column >= 2:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None

    def _icon(self, path: str) -> QIcon:
        # Read when a row comes into sight: ten thousand pictures would not fit.
        icon = self._icons.pop(path, None)
        if icon is None:
            icon = QIcon(QPixmap(path))
        self._icons[path] = icon
        while len(self._icons) > _KEPT_ICONS:
            self._icons.popitem(last=False)
        return icon


class BatchTable(QTableView):
    """Shows the rows; ``chosen`` is emitted with the current one or None."""

    chosen = Signal(object)
    opened = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.rows_model = BatchModel(self)
        self.setModel(self.rows_model)
        self.setIconSize(QSize(_ICON, _ICON))
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW)
        header = self.horizontalHeader()
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setMinimumSectionSize(30)
        for column, sample in enumerate(("complete", "Objects ", "000.0 s"), 1):
            wide = self.fontMetrics().horizontalAdvance(sample) + 8
            header.resizeSection(column, wide)
        self.setMinimumHeight(4 * _ROW)
        self.doubleClicked.connect(self._on_double_click)
        self.selectionModel().selectionChanged.connect(lambda *_: self.chosen.emit(self.current()))

    def current(self) -> Row | None:
        """Return the chosen row."""
        chosen = self.selectionModel().selectedRows()
        return self.rows_model.row(chosen[0].row()) if chosen else None

    def _on_double_click(self, index: QModelIndex) -> None:
        row = self.rows_model.row(index.row())
        if row.openable:
            self.opened.emit(row)


def _cells(row: Row) -> tuple[str, str, str, str]:
    counted = row.state in FINISHED
    time = f"{row.seconds:.1f} s" if row.state == "done" else ""
    return row.name, STATES[row.state][0], f"{row.objects:,}" if counted else "", time


def _tooltip(row: Row, column: int) -> str:
    if column == 1:
        return plain_tooltip(STATES[row.state][1] or row.words)
    text = plain_tooltip("\n".join(filter(None, (row.path or row.name, row.words))))
    if row.overlay and column == 0:
        return f'<img src="{Path(row.overlay).as_uri()}">{text}'
    return text
