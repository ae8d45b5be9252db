"""A small picture of a training: its loss, and what held-back strokes say."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

_HEIGHT = 96
_MARGIN = 6.0
_LEGEND = 16.0
# A step's loss depends on what it happened to draw; the line is its moving mean.
_SMOOTHING = 0.15


class TrainingCurve(QWidget):
    """Loss (thin line) and held-back score (dots on a scale of 0 to 100 %)."""

    def __init__(self, theme: str = "dark", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._losses: list[tuple[int, float]] = []
        self._scores: list[tuple[int, float]] = []
        self._planned = 0
        self.setMinimumHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "Line: the loss, smoothed; it should fall. Dots: the share of the held-back strokes "
            "that is right, from 0 (bottom) to 100 % (top); it should rise. No dots: too little "
            "could be held back."
        )

    @property
    def losses(self) -> Sequence[tuple[int, float]]:
        """Step and loss of what is shown."""
        return tuple(self._losses)

    @property
    def scores(self) -> Sequence[tuple[int, float]]:
        """Step and score of what is shown, range [0, 1]."""
        return tuple(self._scores)

    def clear(self) -> None:
        """Begin anew."""
        self._losses, self._scores, self._planned = [], [], 0
        self.update()

    def add(self, step: int, planned: int, loss: float, score: float | None) -> None:
        """Add one step."""
        self._planned = max(planned, step)
        if math.isfinite(loss):
            self._losses.append((step, loss))
        if score is not None:
            self._scores.append((step, score))
        self.update()

    def set_curve(self, curve: Sequence[tuple[int, float, float | None]]) -> None:
        """Show all of a training that is over."""
        self.clear()
        for step, loss, score in curve:
            self.add(step, len(curve), loss, score)

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self._theme = theme
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw with Qt alone: no plotting library is worth a second of start-up."""
        from napari.utils.theme import get_theme

        theme = get_theme(self._theme)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        frame = QRectF(self.rect()).adjusted(_MARGIN, _MARGIN, -_MARGIN, -_MARGIN - _LEGEND)
        painter.setPen(QPen(QColor(theme.primary.as_hex()), 1))
        painter.drawLine(frame.bottomLeft(), frame.bottomRight())
        painter.drawLine(frame.bottomLeft(), frame.topLeft())
        text, line = QColor(theme.text.as_hex()), QColor(theme.current.as_hex())
        self._draw_loss(painter, frame, line.lighter(140))
        self._draw_scores(painter, frame, QColor("#e69f00"))
        self._draw_legend(painter, frame, text)
        painter.end()

    def _draw_loss(self, painter: QPainter, frame: QRectF, colour: QColor) -> None:
        if len(self._losses) < 2:
            return
        means, mean = [], self._losses[0][1]
        for _, loss in self._losses:
            mean += _SMOOTHING * (loss - mean)
            means.append(mean)
        top = max(means) or 1.0
        path = QPainterPath()
        for (step, _), value in zip(self._losses, means, strict=True):
            point = self._at(frame, step, max(value, 0.0) / top)
            (path.lineTo if path.elementCount() else path.moveTo)(point)
        painter.setPen(QPen(colour, 1.5))
        painter.drawPath(path)

    def _draw_scores(self, painter: QPainter, frame: QRectF, colour: QColor) -> None:
        painter.setPen(QPen(colour, 1, Qt.PenStyle.DotLine))
        points = [self._at(frame, step, score) for step, score in self._scores]
        for one, other in itertools.pairwise(points):
            painter.drawLine(one, other)
        painter.setBrush(colour)
        for point in points:
            painter.drawEllipse(point, 3.0, 3.0)

    def _draw_legend(self, painter: QPainter, frame: QRectF, colour: QColor) -> None:
        parts = []
        if self._losses:
            parts.append(f"step {self._losses[-1][0]} · loss {self._losses[-1][1]:.2f}")
        if self._scores:
            parts.append(f"● held back {100 * self._scores[-1][1]:.0f} %")
        painter.setPen(colour)
        where = QRectF(frame.left(), frame.bottom() + 1, frame.width(), _LEGEND + 2)
        painter.drawText(where, Qt.AlignmentFlag.AlignLeft, "   ".join(parts))

    def _at(self, frame: QRectF, step: int, share: float) -> QPointF:
        x = frame.left() + frame.width() * step / max(self._planned, 1)
        return QPointF(x, frame.bottom() - frame.height() * min(share, 1.0))
