"""Counts and sizes over the images of a batch, drawn, and for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from unet_studio.errors import OutputError
from unet_studio.gui.batch_table import FINISHED, Row
from unet_studio.gui.messages import notify_error
from unet_studio.images.atomic import atomic_file

if TYPE_CHECKING:
    from qtpy.QtGui import QMouseEvent, QPaintEvent

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 26, 24
_BETWEEN = 44
_TICKS = 4
_UNITS = (
    ("micrometer", "µm"), ("nanometer", "nm"), ("millimeter", "mm"), ("pixel", "px"),
    ("^2", "²"), ("^3", "³"),
)  # fmt: skip


def plotted(rows: Sequence[Row]) -> list[Row]:
    """Return the rows that have a result."""
    return [row for row in rows if row.state in FINISHED]


def left_out(rows: Sequence[Row], unit: str) -> str:
    """Say how many images are measured in another unit, and so not in the chart of sizes."""
    number = sum(bool(row.sizes) and row.unit != unit for row in rows)
    return f" ({number:,} in another unit left out)" if number else ""


def write_summary(rows: Sequence[Row], path: Path) -> None:
    """Write what is drawn as CSV: a line for each image, and what became of it.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    unit = next((row.unit for row in rows if row.unit), "area")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    what, bracket, rest = unit.partition(" [")
    named = [f"{part}_{what}{bracket}{rest}" for part in ("quartile_1", "median", "quartile_3")]
    writer.writerow(["file", "state", "objects", "seconds", *named])
    for row in rows:
        known = row.state in FINISHED
        sizes = row.sizes if row.sizes is not None and row.unit == unit else ("", "", "")
        seconds = row.seconds if row.state == "done" else ""
        writer.writerow([row.name, row.state, row.objects if known else "", seconds, *sizes])
    with atomic_file(path) as stream:
        stream.write(text.getvalue().encode("utf-8", "backslashreplace"))


class BatchPlot(QWidget):
    """Two charts, one above the other: objects of each image, and their sizes.

    ``pointed`` tells of the image under the pointer, ``chosen`` of one that was clicked.
    """

    pointed = Signal(object)
    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: list[Row] = []
        self._unit = ""
        self._at = -1
        self.setMouseTracking(True)
        self.setMinimumSize(420, 320)

    def sizeHint(self) -> QSize:
        """Return a size in which both charts can be read."""
        return QSize(760, 460)

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Draw the rows that have a result."""
        self._rows = plotted(rows)
        self._unit = next((row.unit for row in self._rows if row.unit), "")
        self.update()

    def row_at(self, x: float) -> Row | None:
        """Return the row drawn at a place."""
        wide = self.width() - _LEFT - _RIGHT
        index = int((x - _LEFT) / wide * len(self._rows)) if wide > 0 else -1
        inside = _LEFT <= x <= self.width() - _RIGHT and 0 <= index < len(self._rows)
        return self._rows[index] if inside else None

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell which image the pointer is at."""
        row = self.row_at(event.position().x())
        at = self._rows.index(row) if row is not None else -1
        if at != self._at:
            self._at = at
            self.pointed.emit(row)
            self.update()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose the image that was clicked."""
        if (row := self.row_at(event.position().x())) is not None:
            self.chosen.emit(row)

    def paintEvent(self, _event: QPaintEvent | None = None) -> None:
        """Draw both charts."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillRect(self.rect(), self.palette().window())
        high = (self.height() - 2 * _TOP - _BETWEEN - _BOTTOM + _TOP) / 2
        wide = self.width() - _LEFT - _RIGHT
        counts = QRectF(_LEFT, _TOP, wide, high)
        sizes = QRectF(_LEFT, _TOP + high + _BETWEEN, wide, high)
        self._draw_counts(painter, counts)
        self._draw_sizes(painter, sizes)
        painter.end()

    def _draw_counts(self, painter: QPainter, box: QRectF) -> None:
        top = max((row.objects for row in self._rows), default=0)
        top = self._axis(painter, box, float(top), "Objects in each image")
        painter.setPen(Qt.PenStyle.NoPen)
        step, bar = self._steps(box)
        for index, row in enumerate(self._rows):
            painter.setBrush(self._colour(index))
            high = box.height() * row.objects / top
            left = box.left() + index * step + (step - bar) / 2
            painter.drawRect(QRectF(left, box.bottom() - high, bar, high))

    def _draw_sizes(self, painter: QPainter, box: QRectF) -> None:
        sized = [row.sizes for row in self._rows if row.sizes and row.unit == self._unit]
        title = f"{_short(self._unit) or 'Size'}: median, and the middle half, of each image"
        title += left_out(self._rows, self._unit)
        top = self._axis(painter, box, max((s[2] for s in sized), default=0.0), title)
        step, bar = self._steps(box)
        for index, row in enumerate(self._rows):
            if row.sizes is None or row.unit != self._unit:
                continue
            low, middle, high = (box.bottom() - box.height() * s / top for s in row.sizes)
            left = box.left() + index * step + (step - bar) / 2
            colour = self._colour(index)
            pale = QColor(colour)
            pale.setAlpha(110)
            painter.fillRect(QRectF(left, high, bar, max(1.0, low - high)), pale)
            painter.setPen(QPen(colour, 2))
            painter.drawLine(QPointF(left, middle), QPointF(left + bar, middle))

    def _axis(self, painter: QPainter, box: QRectF, largest: float, title: str) -> float:
        """Draw title, ticks and lines of a chart; return the value at its top."""
        text = self.palette().windowText().color()
        line = QColor(text)
        line.setAlpha(50)
        step = nice_step(largest / _TICKS)
        top = step * max(1, -(-largest // step))
        painter.setPen(text)
        painter.drawText(QPointF(box.left(), box.top() - 9), title[:1].upper() + title[1:])
        value = 0.0
        while value <= top * 1.001:
            y = box.bottom() - box.height() * value / top
            painter.setPen(QPen(line, 1))
            painter.drawLine(QPointF(box.left(), y), QPointF(box.right(), y))
            painter.setPen(text)
            place = QRectF(0, y - 9, _LEFT - 8, 18)
            flags = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            painter.drawText(place, flags, f"{value:,.10g}")
            value += step
        if not self._rows:
            painter.drawText(box, int(Qt.AlignmentFlag.AlignCenter), "No results yet")
        return float(top)

    def _steps(self, box: QRectF) -> tuple[float, float]:
        step = box.width() / max(1, len(self._rows))
        return step, max(1.0, min(step * 0.8, 40.0))

    def _colour(self, index: int) -> QColor:
        if index == self._at:
            return self.palette().windowText().color()
        return QColor(90, 160, 230)


class PlotWindow(QDialog):
    """The charts in a window of their own, with buttons that export them."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Objects over the images of the batch")
        self._rows: list[Row] = []
        self.plot = BatchPlot()
        self.line = QLabel("Point at an image; click to choose it in the table.")
        self.line.setTextFormat(Qt.TextFormat.PlainText)
        self.csv_button = QPushButton("Save table …")
        self.csv_button.setToolTip("What is drawn, as CSV: a line for each image.")
        self.png_button = QPushButton("Save picture …")
        self.png_button.setToolTip("The two charts as they are drawn, as PNG.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.line, 1)
        buttons.addWidget(self.csv_button)
        buttons.addWidget(self.png_button)
        outer = QVBoxLayout(self)
        outer.addWidget(self.plot, 1)
        outer.addLayout(buttons)
        self.plot.pointed.connect(self._on_pointed)
        self.plot.chosen.connect(self.chosen)
        self.csv_button.clicked.connect(self._ask_csv)
        self.png_button.clicked.connect(self._ask_png)

    def show_rows(self, rows: Sequence[Row]) -> None:
        """Draw these rows."""
        self._rows = list(rows)
        self.plot.show_rows(rows)

    def save_csv(self, path: str | Path) -> None:
        """Save what is drawn as CSV, or say why it can not be."""
        try:
            write_summary(self._rows, Path(path))
        except OutputError as error:
            notify_error(str(error))

    def save_png(self, path: str | Path) -> None:
        """Save the charts as PNG, or say why they can not be."""
        if not self.plot.grab().save(str(path), "PNG"):
            notify_error(f"{path} could not be written. Choose another folder.")

    def _on_pointed(self, row: Row | None) -> None:
        if row is None:
            self.line.setText("")
            return
        size = f" · median {row.sizes[1]:,.4g}" if row.sizes else ""
        self.line.setText(f"{row.name} · {row.objects:,} objects{size}")

    def _ask_csv(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save table", "batch.csv", "CSV (*.csv)")
        if path:
            self.save_csv(path if path.endswith(".csv") else f"{path}.csv")

    def _ask_png(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save picture", "batch.png", "PNG (*.png)")
        if path:
            self.save_png(path if path.endswith(".png") else f"{path}.png")


def nice_step(rough: float) -> float:
    """Return the next of 1, 2, 5, 10, 20, … (times a power of ten) from a number on."""
    if rough <= 0:
        return 1.0
    power = 1e-12
    while True:
        for digit in (1, 2, 5):
            if digit * power >= rough * (1 - 1e-9):
                return float(f"{digit * power:.3g}")
        power *= 10


def _short(unit: str) -> str:
    for long, short in _UNITS:
        unit = unit.replace(long, short)
    return unit
