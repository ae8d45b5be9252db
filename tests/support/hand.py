"""A user's hand on the canvas."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QEvent, QPoint, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

LEFT, PLAIN = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


class Hand:
    """Clicks and types in the canvas as a person does, with events of Qt."""

    def __init__(self, viewer, studio, qtbot):
        self.viewer, self.studio, self.qtbot = viewer, studio, qtbot
        window = getattr(viewer.window, "__wrapped__", viewer.window)
        self.canvas = window._qt_viewer.canvas.native

    @property
    def tab(self):
        return self.studio.tab

    @property
    def clicking(self):
        return self.tab.clicking

    def start(self):
        """Press the primary button, and wait for the model."""
        assert self.tab.run_button.isEnabled(), self.tab.run_button.toolTip()
        self.tab.run_button.click()
        return self.wait()

    def wait(self):
        """Wait until every click has been answered; return what is said."""
        self.qtbot.waitUntil(
            lambda: self.clicking is None or not self.clicking.desk.busy, timeout=60_000
        )
        QApplication.processEvents()
        return self.tab.summary.text()

    def place(self, layer, position):
        """Return where a position in a layer's data is on the canvas."""
        QApplication.processEvents()
        world = np.asarray(layer.data_to_world(position))
        shown = [world[a - self.viewer.dims.ndim] for a in self.viewer.dims.displayed]
        camera = self.viewer.scene.camera
        centre = np.asarray(camera.center)[-2:]
        size = np.array([self.canvas.height(), self.canvas.width()])
        y, x = size / 2 + (np.asarray(shown) - centre) * camera.zoom
        return QPoint(round(float(x)), round(float(y)))

    def click(self, layer, position, modifier=None, wait=True):
        """Click at a position in a layer's data."""
        point = self.place(layer, position)
        assert self.canvas.rect().contains(point), point
        QTest.mouseMove(self.canvas, point)
        QTest.mouseClick(self.canvas, LEFT, modifier or PLAIN, point)
        return self.wait() if wait else ""

    def drag(self, layer, start, stop):
        """Press, move and release."""
        one, other = self.place(layer, start), self.place(layer, stop)
        QTest.mouseMove(self.canvas, one)
        QTest.mousePress(self.canvas, LEFT, PLAIN, one)
        for part in (0.25, 0.5, 0.75, 1.0):
            between = one + (other - one) * part
            # QTest.mouseMove carries no pressed button.
            _move(self.canvas, between)
            self.qtbot.wait(10)
        QTest.mouseRelease(self.canvas, LEFT, PLAIN, other)
        self.qtbot.wait(10)
        return self.wait()

    def press(self, key, modifier=None):
        """Press a key in the canvas."""
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), modifier or PLAIN)
        return self.wait()


def _move(widget, point):
    there = QPointF(widget.mapToGlobal(point))
    event = QMouseEvent(
        QEvent.Type.MouseMove, QPointF(point), there, Qt.MouseButton.NoButton, LEFT, PLAIN
    )
    QApplication.sendEvent(widget, event)
