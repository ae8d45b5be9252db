"""What goes wrong in the Refine tab is told, and no stroke is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from support.strokes import paint_both, settle, stroke
from unet_studio.training.session import Session, list_sessions


@pytest.mark.parametrize(
    ("paint", "words"),
    [
        (lambda layer: None, "Nothing is painted yet"),
        (lambda layer: stroke(layer, 2, (16, 18)), "Only one class is annotated"),
        (lambda layer: (paint_both(layer), stroke(layer, 5, (50, 50))), "the number 5"),
    ],
    ids=["F80-nothing", "F81-one-class", "F85-unknown-class"],
)
def test_what_can_not_be_learned_from_is_said_before_any_work(
    open_refine, notifications, paint, words
):
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    paint(viewer.layers.selection.active)
    tab.run_button.click()
    assert not tab.runner.running
    assert words in tab.summary.text()
    assert [m for _, m in notifications() if words in m]


def test_labels_erased_while_training_end_it_with_what_was_learned(
    open_refine, qtbot, notifications
):
    """F87."""
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    paint_both(layer)
    settle(qtbot, tab)
    tab.training.seconds.setValue(600)
    tab.run_button.click()
    qtbot.waitUntil(lambda: len(tab.training.curve.losses) >= 2, timeout=60_000)
    rows, columns = np.nonzero(layer.data)
    layer.data_setitem((rows, columns), 0)
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=60_000)
    assert [m for _, m in notifications() if "All annotations were erased" in m]
    assert len(tab.desk.session.versions) == 2


def test_a_full_disk_is_told_and_the_strokes_are_saved_later(
    open_refine, qtbot, notifications, monkeypatch
):
    """F88."""
    from unet_studio.errors import OutputError

    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    real = Session.save_strokes
    monkeypatch.setattr("unet_studio.gui.stroke_keeper._PATIENCE_MS", 100)

    def full(*_arguments):
        raise OutputError("There is no space left on the disk. Free some.")

    monkeypatch.setattr(Session, "save_strokes", full)
    paint_both(layer)
    qtbot.waitUntil(lambda: any("no space left" in m for _, m in notifications()), timeout=10_000)
    monkeypatch.setattr(Session, "save_strokes", real)
    settle(qtbot, tab)
    assert len(tab.desk.session.strokes(0)) == int((layer.data > 0).sum())


SESSION = textwrap.dedent(
    """
    import sys, time
    import napari
    import numpy as np
    from qtpy.QtWidgets import QApplication

    image = np.load(sys.argv[1])
    viewer = napari.Viewer(show=True)
    viewer.add_image(image, name="cells")
    _, studio = viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
    studio.open_model(sys.argv[2])
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Refine"))
    tab = studio.tab
    tab.training.seconds.setMinimum(2)
    tab.training.seconds.setValue(2)
    tab.painting.paint.click()
    layer = tab.canvas().labels

    def live(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.005)

    for row, column, label in ((16, 18, 2), (44, 28, 2), (4, 4, 1), (70, 60, 1)):
        layer.paint((row, column), label)
    tab.run_button.click()
    while tab.runner.running:
        live(0.05)
    tab.training.seconds.setValue(600)
    tab.run_button.click()
    while len(tab.training.curve.losses) < 3:
        live(0.05)
    layer.paint((30, 58), 2)
    while tab.desk.saving():
        live(0.02)
    print("PAINTED", int((layer.data > 0).sum()), flush=True)
    live(600)
    """
)


def test_a_killed_napari_loses_no_stroke_and_no_finished_version(tmp_path, tiny_model, blob_image):
    image = tmp_path / "cells.npy"
    np.save(image, blob_image((96, 96)))
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION, str(image), str(tiny_model)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    try:
        told, line = [], ""
        for line in process.stdout:
            told.append(line)
            if line.startswith("PAINTED"):
                break
        assert line.startswith("PAINTED"), told
        time.sleep(0.2)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    (session,) = list_sessions()
    assert len(session.strokes(0)) == int(line.split()[1])
    versions = session.versions
    assert [v.number for v in versions] == [0, 1]
    for version in versions:
        assert session.load(version.number).sha256 == version.sha256
    assert json.loads((session.folder / "session.json").read_text())["current"] == 0
