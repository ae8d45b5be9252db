"""The Refine tab as a user works in it: strokes, saving, training."""

from __future__ import annotations

SECONDS = 2  # less than the window offers: enough for the tiny model


def show_refine(studio):
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Refine"))


def stroke(layer, label, *places, plane=()):
    """Paint short strokes as the mouse does, through napari's own painting."""
    layer.selected_label = label
    for row, column in places:
        for step in range(6):
            layer.paint((*plane, row, column + step), label)


def paint_both(layer, plane=()):
    """Paint some of the discs of the test image, and some of the dark."""
    stroke(layer, 2, (16, 18), (44, 28), (30, 58), plane=plane)
    stroke(layer, 1, (4, 4), (70, 60), (60, 80), plane=plane)


def settle(qtbot, tab):
    qtbot.waitUntil(lambda: not tab.desk.saving(), timeout=10_000)


def train(qtbot, tab, timeout=90_000):
    tab.run_button.click()
    assert tab.runner.running, tab.summary.text()
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=timeout)
