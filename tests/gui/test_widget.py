"""The dock widget in a real window, at the user's boundary."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

OPENING = textwrap.dedent(
    """
    import sys, time
    import napari
    viewer = napari.Viewer(show=False)
    viewer.open_sample("napari-unet-studio", "nuclei_fluorescence")
    began = time.monotonic()
    _, studio = viewer.window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
    studio.tab.update_forecast()
    seconds = time.monotonic() - began
    heavy = sorted({"torch", "timm", "segmentation_models_pytorch"} & set(sys.modules))
    print("RESULT", seconds, heavy, studio.tab.forecast.text())
    viewer.close()
    """
)


def test_L12_opening_the_widget_imports_no_torch_and_is_quick():
    done = subprocess.run(
        [sys.executable, "-c", OPENING], capture_output=True, text=True, timeout=120, check=False
    )
    result = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert result, done.stderr
    _, seconds, heavy, *_ = result[0].split(maxsplit=3)
    assert heavy == "[]"
    assert float(seconds) < 2


def test_a_sample_is_segmented_without_a_line_of_code(open_studio, run, notifications):
    """The real path: shipped sample, shipped model, labels with measurements on the image."""
    viewer, studio = open_studio()
    viewer.open_sample("napari-unet-studio", "nuclei_fluorescence")
    studio.header.select("nuclei")
    run(studio, timeout=120_000)
    labels = viewer.layers[-1]
    assert labels.name == "nuclei fluorescence · nuclei"
    assert labels.data.shape == viewer.layers[0].data.shape
    count = int(labels.data.max())
    assert 15 <= count <= 26, count  # 20 nuclei were drawn by hand
    assert list(labels.features["index"]) == list(range(1, count + 1))
    assert (labels.features["area"] > 0).all()
    assert labels.metadata["unet_studio"]["objects"]["count"] == count
    assert f"{count} objects" in studio.tab.summary.text()
    assert not [n for n in notifications() if "error" in n[0].lower()]


def test_the_forecast_is_there_before_run(open_studio, blob_image):
    viewer, studio = open_studio()
    assert not studio.tab.run_button.isEnabled()
    assert "Open an image" in studio.tab.forecast.text()
    viewer.add_image(blob_image())
    studio.tab.update_forecast()
    assert studio.tab.run_button.isEnabled()
    assert "1 tile" in studio.tab.forecast.text()
    assert "MiB" in studio.tab.forecast.text()


def test_options_are_followed_live_without_the_network(
    open_studio, run, engine, blob_image, qtbot
):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    labels = viewer.layers[-1]
    before = int((labels.data > 0).sum())
    assert before > 0
    assert len(labels.features) == labels.data.max()
    studio.tab.objects.options_form().editor("min_size").setValue(100_000)
    qtbot.waitUntil(lambda: not labels.data.any(), timeout=5_000)
    qtbot.waitUntil(lambda: "0 objects" in studio.tab.summary.text())
    assert labels.features.empty
    studio.tab.objects.options_form().editor("min_size").setValue(1)
    qtbot.waitUntil(lambda: (labels.data > 0).sum() >= before, timeout=5_000)
    assert engine.calls == 1
    assert len(viewer.layers) == 2


def test_dragging_a_slider_ends_with_its_last_position(
    open_studio, run, engine, blob_image, qtbot
):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    editor = studio.tab.objects.options_form().editor("threshold")
    for value in np.linspace(0.5, 0.99, 40):
        editor.setValue(float(value))
    qtbot.waitUntil(lambda: not studio.tab.preview.busy, timeout=5_000)
    record = viewer.layers[-1].metadata["unet_studio"]
    assert record["objects"]["options"]["threshold"] == pytest.approx(0.99, abs=0.01)


def test_without_live_preview_nothing_moves(open_studio, run, engine, blob_image, qtbot):
    viewer, studio = open_studio()
    viewer.add_image(blob_image())
    run(studio)
    before = viewer.layers[-1].data.copy()
    studio.tab.objects.live.setChecked(False)
    studio.tab.objects.options_form().editor("min_size").setValue(100_000)
    qtbot.wait(300)
    assert not studio.tab.preview.busy
    assert np.array_equal(viewer.layers[-1].data, before)


def test_a_painted_result_is_never_touched_again(open_studio, run, engine, blob_image, qtbot):
    """Undo would replay the stroke onto exchanged pixels; the next preview gets its own layer."""
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    painted = viewer.layers[-1]
    painted.data_setitem((np.array([0, 1]), np.array([0, 1])), 9)
    kept = painted.data.copy()
    studio.tab.objects.options_form().editor("min_size").setValue(100_000)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=5_000)
    assert np.array_equal(painted.data, kept)
    assert not viewer.layers[-1].data.any()
    studio.tab.objects.options_form().editor("min_size").setValue(1)
    qtbot.waitUntil(lambda: viewer.layers[-1].data.any(), timeout=5_000)
    assert len(viewer.layers) == 3
    painted.undo()
    assert not painted.data[:2, :2].any()


def test_a_change_in_place_counts_as_painting(open_studio, run, engine, blob_image, qtbot):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    mine = viewer.layers[-1]
    mine.data[:3, :3] = 7  # no event tells of this
    studio.tab.objects.options_form().editor("min_size").setValue(100_000)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=5_000)
    assert (mine.data[:3, :3] == 7).all()


def test_ambiguous_axes_are_asked_for(open_studio, blob_image):
    viewer, studio = open_studio()
    layer = viewer.add_image(blob_image((3, 64, 80)), name="movie")
    studio.tab.update_forecast()
    assert studio.tab.input.axes_box.isVisibleTo(studio)
    assert not studio.tab.run_button.isEnabled()
    assert "Choose its axes" in studio.tab.forecast.text()
    studio.tab.input.axes_box.setCurrentIndex(studio.tab.input.axes_box.findData("TYX"))
    studio.tab.update_forecast()
    assert studio.tab.run_button.isEnabled()
    viewer.add_image(blob_image())
    assert not studio.tab.input.axes_box.isVisibleTo(studio)
    viewer.layers.selection.active = layer
    assert studio.tab.input.value().axes == "TYX", "the choice belongs to the layer"


def test_axis_labels_of_the_layer_answer_the_question(open_studio, blob_image):
    viewer, studio = open_studio()
    viewer.add_image(blob_image((3, 64, 80)), axis_labels=("z", "y", "x"))
    studio.tab.update_forecast()
    assert not studio.tab.input.axes_box.isVisibleTo(studio)
    assert studio.tab.run_button.isEnabled()


def test_the_channel_is_chosen(open_studio, run, engine, blob_image):
    viewer, studio = open_studio()
    image = np.stack([np.zeros((64, 80), np.uint8), blob_image()])
    viewer.add_image(image, axis_labels=("c", "y", "x"), name="two")
    box = studio.tab.input.channels_box
    assert [box.itemText(i) for i in range(box.count())] == ["Channel 0", "Channel 1"]
    box.setCurrentIndex(1)
    run(studio)
    assert viewer.layers[-1].metadata["unet_studio"]["model"] == "fake"
    assert studio.tab.input.value().channels == (1,)


def test_the_layer_box_follows_the_viewer(open_studio, blob_image):
    viewer, studio = open_studio()
    box = studio.tab.input.layer_box
    first, second = (viewer.add_image(blob_image(), name=name) for name in "ab")
    viewer.add_labels(np.zeros((64, 80), int))
    assert [box.itemText(i) for i in range(box.count())] == ["b", "a"]
    first.name = "renamed"
    assert "renamed" in [box.itemText(i) for i in range(box.count())]
    viewer.layers.selection.active = first
    assert box.value().name == "renamed"
    viewer.layers.remove(first)
    assert box.value().name == second.name
    viewer.layers.clear()
    assert box.value() is None
    assert not box.isEnabled()


def test_run_shows_progress_and_can_be_cancelled_in_the_activity_dock(
    open_studio, engine, blob_image, qtbot
):
    from napari.utils.progress import progress

    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    studio.tab.update_forecast()
    engine.gate.clear()
    studio.tab.run_button.click()
    qtbot.waitUntil(lambda: studio.tab.runner.running)
    assert studio.tab.run_button.text() == "Cancel"
    (bar,) = [p for p in progress._all_instances if "cells" in p.desc]
    began = time.monotonic()
    bar.cancel()
    qtbot.waitUntil(lambda: not studio.tab.runner.running, timeout=2_000)
    assert time.monotonic() - began < 2
    assert studio.tab.run_button.text() == "Segment"
    assert "Cancelled" in studio.tab.summary.text()
    assert len(viewer.layers) == 1
    assert not [p for p in progress._all_instances if "cells" in p.desc]


def test_P15_the_run_after_a_cancelled_one_is_whole(open_studio, engine, blob_image, qtbot, run):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    whole = viewer.layers[-1].data.copy()
    engine.gate.clear()
    studio.tab.run_button.click()
    studio.tab.run_button.click()  # cancel
    qtbot.waitUntil(lambda: not studio.tab.runner.running, timeout=2_000)
    engine.gate.set()
    run(studio)
    assert np.array_equal(viewer.layers[-1].data, whole)


def test_the_shortcut_lives_as_long_as_the_widget(open_studio, engine, blob_image, qtbot):
    from app_model.types import KeyBinding
    from napari.settings import get_settings

    from unet_studio.gui.dock import RUN_KEY

    viewer, studio = open_studio()
    key = KeyBinding.from_str("Ctrl+Shift+U")
    taken = {str(k) for keys in get_settings().shortcuts.shortcuts.values() for k in keys}
    assert str(key) not in taken
    bound = [k for k in viewer.keymap if str(k) == str(key)]
    assert bound, RUN_KEY
    viewer.add_image(blob_image())
    studio.tab.update_forecast()
    viewer.keymap[bound[0]](viewer)
    qtbot.waitUntil(lambda: not studio.tab.runner.running)
    assert len(viewer.layers) == 2
    viewer.window.remove_dock_widget(studio)
    assert bound[0] not in viewer.keymap


def test_the_theme_is_followed(open_studio):
    viewer, studio = open_studio()
    dark = studio.tab.run_button.styleSheet()
    viewer.theme = "light"
    assert studio.tab.run_button.styleSheet() != dark


def test_nothing_is_clipped_at_the_default_width(open_studio, qtbot):
    from qtpy.QtWidgets import QScrollArea

    _, studio = open_studio(show=True)
    scroll = studio.findChild(QScrollArea)
    qtbot.waitUntil(lambda: scroll.viewport().width() > 0)
    assert scroll.widget().minimumSizeHint().width() <= scroll.viewport().width()


@pytest.mark.parametrize(
    ("way", "floating"),
    [("remove", False), ("remove", True), ("remove_selected", False), ("clear", False)],
)
def test_a_layer_that_goes_is_deleted_in_the_canvas_own_context(
    way, floating, open_studio, qtbot, monkeypatch
):
    """Deleted in another one, as Qt's is while a window is painted, it ends the process."""
    from qtpy.QtGui import QOffscreenSurface, QOpenGLContext
    from qtpy.QtWidgets import QDockWidget
    from vispy.gloo.context import GLContext

    viewer, studio = open_studio(show=True)
    points = viewer.add_points(np.zeros((1, 2)))
    canvas = getattr(viewer.window, "__wrapped__", viewer.window)._qt_viewer.canvas.native
    qtbot.waitUntil(canvas.isValid)
    dock = studio
    while not isinstance(dock, QDockWidget):
        dock = dock.parentWidget()
    dock.setFloating(floating)
    surface, other = QOffscreenSurface(), QOpenGLContext()
    surface.create()
    other.setShareContext(canvas.context())
    assert other.create()
    assert other.makeCurrent(surface)
    seen, finish = [], GLContext.finish

    def finish_deleting(self):
        seen.append(QOpenGLContext.currentContext())
        finish(self)

    monkeypatch.setattr(GLContext, "finish", finish_deleting)
    getattr(viewer.layers, way)(*([points] if way == "remove" else []))
    assert seen == [canvas.context()]
    other.doneCurrent()


def test_the_way_is_told_while_running(open_studio, engine, blob_image, qtbot):
    viewer, studio = open_studio()
    viewer.add_image(blob_image())
    studio.tab.update_forecast()
    engine.gate.clear()
    studio.tab.run_button.click()
    qtbot.waitUntil(lambda: "Predicting" in studio.tab.summary.text())
    assert studio.tab.bar.isVisibleTo(studio)
    engine.gate.set()
    qtbot.waitUntil(lambda: not studio.tab.runner.running)


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_L06_cycles_leave_nothing_behind(count, open_studio, engine, blob_image, qtbot, resident):
    """Threads, timers, top-level widgets and open files are as before, and memory nearly."""
    import threading
    from pathlib import Path

    from qtpy.QtCore import QTimer
    from qtpy.QtWidgets import QApplication

    descriptors = Path("/proc/self/fd")

    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    studio.tab.update_forecast()

    def cycle():
        engine.gate.clear()
        studio.tab.run_button.click()
        qtbot.wait(5)
        studio.tab.run_button.click()
        qtbot.waitUntil(lambda: not studio.tab.runner.running, timeout=2_000)
        qtbot.wait(1)

    def census():
        gc.collect()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete
        return (
            threading.active_count(),
            len(studio.findChildren(QTimer)),
            len(QApplication.topLevelWidgets()),
        ), len(list(descriptors.iterdir())) if descriptors.is_dir() else 0

    cycle()
    before, files = census()
    sizes = []
    for _ in range(count):
        cycle()
        sizes.append(resident())
    after, files_after = census()
    assert after == before
    assert files_after <= files  # others close some of theirs meanwhile
    assert len(viewer.layers) == 1
    if len(sizes) > 20:
        slope = np.polyfit(np.arange(len(sizes) - 20), sizes[20:], 1)[0]
        print(f"{slope / 1e3:.1f} kB per cycle")
        assert slope <= 100e3


def test_a_stroke_that_was_undone_still_makes_the_layer_the_users(
    open_studio, run, engine, blob_image, qtbot
):
    """Redo would replay it: equal pixels are not enough."""
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    mine = viewer.layers[-1]
    mine.data_setitem((np.array([0]), np.array([0])), 9)
    mine.undo()
    kept = mine.data.copy()
    studio.tab.objects.options_form().editor("min_size").setValue(100_000)
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=5_000)
    assert np.array_equal(mine.data, kept)


def test_the_probabilities_of_an_earlier_run_are_let_go(
    open_studio, run, engine, blob_image, monkeypatch
):
    import gc
    import weakref

    made = []
    original = engine._prediction

    def remember(volume):
        prediction = original(volume)
        made.append(weakref.ref(prediction.probabilities))
        return prediction

    monkeypatch.setattr(engine, "_prediction", remember)
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    run(studio)
    run(studio)
    gc.collect()
    assert made[0]() is None, "a second run doubles the memory"
    assert made[1]() is not None
    viewer.window.remove_dock_widget(studio)
    gc.collect()
    assert made[1]() is None
