"""Refine in a real window: paint, train, compare, adopt, go back, and lose nothing."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from unet_studio.training.session import Session, list_sessions

SECONDS = 2  # less than the window offers: enough for the tiny model


def show_refine(studio):
    titles = [studio.tabs.tabText(i) for i in range(studio.tabs.count())]
    studio.tabs.setCurrentIndex(titles.index("Refine"))


@pytest.fixture
def open_refine(open_studio, blob_image):
    """Open a viewer with an image and the Refine tab in front: ``viewer, tab, studio``."""

    def open_it(shape=(96, 96), name="cells", **keywords):
        viewer, studio = open_studio()
        viewer.add_image(blob_image(shape), name=name, **keywords)
        show_refine(studio)
        studio.tab.training.seconds.setMinimum(SECONDS)
        studio.tab.training.seconds.setValue(SECONDS)
        return viewer, studio.tab, studio

    return open_it


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


def weights_in(path):
    """The SHA-256 of the weights of a model file, read by another library than ours."""
    import safetensors

    digest = hashlib.sha256()
    with safetensors.safe_open(path, "np") as file:
        for name in sorted(file.keys()):
            digest.update(name.encode() + np.ascontiguousarray(file.get_tensor(name)).tobytes())
    return digest.hexdigest()


def test_paint_train_adopt_segment_and_revert(open_refine, qtbot, run, notifications):
    viewer, tab, studio = open_refine()
    base = studio.header.value().entry.path
    before = weights_in(base)
    assert not tab.run_button.isEnabled()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    assert layer.name == "cells · strokes"
    assert (layer.mode, layer.brush_size) == ("paint", 4)
    paint_both(layer)
    settle(qtbot, tab)
    assert "pixels painted, saved" in tab.painting.notice.text()

    train(qtbot, tab)
    assert tab.card.isVisibleTo(tab)
    assert len(tab.training.curve.losses) >= 1  # a busy machine does no more in 2 s
    assert tab.overlay.layer is not None
    assert (
        viewer.layers.selection.active.unique_id == layer.unique_id
    )  # the brush stays in the hand
    assert studio.header.value().entry.path == base  # nothing is adopted silently
    assert [v.number for v in tab.desk.session.versions] == [0, 1]

    tab.card.adopt.click()
    chosen = studio.header.value().entry
    assert chosen.path == tab.desk.session.path(1)
    assert weights_in(chosen.path) != before
    assert not tab.card.isVisibleTo(tab)
    assert tab.overlay.layer is None
    studio.tabs.setCurrentIndex(0)
    studio.choose_layer(viewer.layers["cells"])
    run(studio)
    assert viewer.layers[-1].name == f"cells · {chosen.name}"

    show_refine(studio)
    tab.versions.revert.click()
    assert studio.header.value().entry.path == base
    assert weights_in(studio.header.value().entry.path) == before
    assert weights_in(tab.desk.session.path(0)) == before
    assert tab.desk.session.current.number == 0
    assert not [n for n in notifications() if "error" in n[0].lower()]


def test_what_is_shown_can_be_swiped_between_both_models(open_refine, qtbot):
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    paint_both(viewer.layers.selection.active)
    train(qtbot, tab)
    new = tab.overlay.layer.data.copy()
    tab.card.slider.setValue(0)
    old = tab.overlay.layer.data.copy()
    assert not np.array_equal(new, old)
    tab.card.slider.setValue(100)
    mixed = tab.overlay.layer.data
    half = new.shape[-1] // 2
    assert np.array_equal(mixed[..., :half], new[..., :half])
    assert np.array_equal(mixed[..., half:], old[..., half:])
    tab.card.keep_old.click()
    assert tab.overlay.layer is None
    assert len(tab.desk.session.versions) == 2  # put aside, not thrown away


def test_cancel_keeps_nothing_and_stop_keeps_the_best(open_refine, qtbot):
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    paint_both(viewer.layers.selection.active)
    tab.training.seconds.setValue(600)
    tab.run_button.click()
    qtbot.waitUntil(lambda: len(tab.training.curve.losses) >= 2, timeout=60_000)
    tab.training.cancel.click()
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=20_000)
    assert [v.number for v in tab.desk.session.versions] == [0]
    assert "nothing was kept" in tab.summary.text()
    tab.run_button.click()
    qtbot.waitUntil(lambda: len(tab.training.curve.losses) >= 2, timeout=60_000)
    tab.run_button.click()  # it says Stop by now
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=20_000)
    assert [v.number for v in tab.desk.session.versions] == [0, 1]
    assert tab.card.isVisibleTo(tab)


def test_strokes_painted_meanwhile_reach_the_training(open_refine, qtbot, monkeypatch):
    import unet_studio.training.curriculum as curriculum

    sizes = []

    class Sampler(curriculum.CropSampler):
        def __init__(self, exercises, *rest, **options):
            sizes.append(sum(len(e.annotations) for e in exercises))
            super().__init__(exercises, *rest, **options)

    monkeypatch.setattr(curriculum, "CropSampler", Sampler)
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    paint_both(layer)
    tab.training.seconds.setValue(600)
    tab.run_button.click()
    qtbot.waitUntil(lambda: len(tab.training.curve.losses) >= 2, timeout=60_000)
    stroke(layer, 1, (80, 10))
    painted = int((layer.data > 0).sum())
    # What was saved just before may come first.
    qtbot.waitUntil(lambda: sizes[-1] == painted, timeout=60_000)
    tab.training.cancel.click()
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=20_000)
    assert sizes[0] < painted


def test_painting_comes_back_in_a_new_window_with_its_versions(open_refine, qtbot):
    viewer, tab, studio = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    paint_both(layer)
    layer.undo()
    painted = layer.data.copy()
    shapes = tab.desk.rectangles(tab.canvas())
    shapes.add_rectangles([[70.0, 5.0], [70.0, 20.0], [80.0, 20.0], [80.0, 5.0]])
    settle(qtbot, tab)
    session = tab.desk.session
    studio.shut_down()
    viewer.layers.clear()
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    assert np.array_equal(viewer.layers["cells · strokes"].data, painted)
    assert tab.desk.session == session
    known = tab.desk.read(tab.canvas())
    assert [(b.start, b.stop) for b in known.complete] == [((70, 5), (81, 21))]
    assert "earlier session" in tab.painting.notice.text()


def show_kind(tab, kind):
    tab.painting.kind.setCurrentIndex(tab.painting.kind.findData(kind))


def test_objects_made_in_the_click_tab_are_learned_renamed_and_after_a_restart(open_refine, qtbot):
    from unet_studio.gui.click_source import ClickSource
    from unet_studio.gui.click_state import Setup

    viewer, tab, studio = open_refine()
    image = viewer.layers["cells"]
    labels = np.zeros((96, 96), np.int32)
    labels[10:24, 10:30], labels[12:22, 14:26] = 1, 2
    made = ClickSource(Setup(image, None, None, None)).annotations_layer(labels)
    made.name = image.name = "renamed"
    assert not tab.run_button.isEnabled()
    viewer.add_layer(made)
    qtbot.waitUntil(tab.run_button.isEnabled, timeout=5000)
    settle(qtbot, tab)
    assert "280 pixels painted, saved" in tab.painting.notice.text()
    (canvas,) = tab.desk.canvases
    assert tab.desk.read(canvas).mode == "objects"
    show_kind(tab, "objects")
    tab.painting.paint.click()  # the same layer, not another one
    assert viewer.layers.selection.active.unique_id == made.unique_id
    assert len(viewer.layers) == 2
    stroke(made, 3, (60, 60))
    settle(qtbot, tab)
    painted = made.data.copy()
    session = tab.desk.session
    studio.shut_down()
    viewer.layers.clear()
    viewer, tab, _ = open_refine(name="another name")
    show_kind(tab, "objects")
    tab.painting.paint.click()
    assert np.array_equal(viewer.layers["another name · objects"].data, painted)
    assert tab.desk.session == session


def test_layers_that_were_painted_on_are_taken_up_when_the_dock_is_opened_again(
    open_refine, qtbot
):
    viewer, tab, studio = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    paint_both(layer)
    shapes = tab.desk.rectangles(tab.canvas())
    shapes.add_rectangles([[70.0, 5.0], [70.0, 20.0], [80.0, 20.0], [80.0, 5.0]])
    settle(qtbot, tab)
    names = [x.name for x in viewer.layers]
    window = viewer.window
    window.remove_dock_widget(studio)
    layer.name = "mine"
    layer.data_setitem(np.nonzero(layer.data == 1), 0)  # not brought back
    painted = layer.data.copy()
    _, studio = window.add_plugin_dock_widget("napari-unet-studio", "U-Net Studio")
    show_refine(studio)
    tab = studio.tab
    settle(qtbot, tab)
    assert len(viewer.layers) == len(names)
    assert tab.canvas().labels.unique_id == layer.unique_id
    assert np.array_equal(layer.data, painted)
    known = tab.desk.read(tab.canvas())
    assert [(b.start, b.stop) for b in known.complete] == [((70, 5), (81, 21))]


def test_a_layer_that_lies_elsewhere_is_annotated_where_it_lies(open_refine, qtbot):
    viewer, tab, _ = open_refine(
        (3, 96, 96), scale=(2.0, 0.5, 0.5), translate=(10.0, 5.0, 5.0), axis_labels=("z", "y", "x")
    )
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    assert tuple(layer.scale) == (2.0, 0.5, 0.5)
    paint_both(layer, plane=(1,))
    viewer.dims.set_current_step(0, 1)
    train(qtbot, tab)
    overlay = tab.overlay.layer
    assert overlay.data.shape[0] == 1
    assert overlay.data_to_world((0, 0, 0))[0] == pytest.approx(12.0)
    assert set(tab.desk.read(tab.canvas()).places[:, 0].tolist()) == {1}


def test_where_to_paint_next_moves_the_view_and_never_twice_to_one_place(open_refine, qtbot):
    viewer, tab, _ = open_refine((4, 128, 128), axis_labels=("z", "y", "x"))
    tab.painting.paint.click()
    places = set()
    for _ in range(3):
        tab.painting.next.click()
        qtbot.waitUntil(lambda: not tab.errands.busy, timeout=60_000)
        center = tuple(round(c) for c in viewer.scene.camera.center[-2:])
        places.add((viewer.dims.current_step[0], *center))
    assert len(places) == 3
    tab.shown.setCurrentIndex(1)
    qtbot.waitUntil(lambda: not tab.errands.busy, timeout=60_000)
    assert tab.overlay.layer.name == "uncertainty"
    assert 0 <= float(tab.overlay.layer.data.min()) <= float(tab.overlay.layer.data.max()) <= 1
    tab.shown.setCurrentIndex(2)
    assert tab.overlay.layer is None


def test_corrections_of_a_prediction_are_learned_where_it_was_changed(
    open_refine, qtbot, run, engine
):
    viewer, tab, studio = open_refine()
    studio.tabs.setCurrentIndex(0)
    run(studio)
    result = viewer.layers[-1]
    original = result.data.copy()
    show_refine(studio)
    tab.painting.kind.setCurrentIndex(2)
    studio.choose_layer(viewer.layers["cells"])
    tab.painting.paint.click()
    copy = viewer.layers.selection.active
    assert copy.name == "cells · corrections"
    assert np.array_equal(copy.data, original)
    stroke(copy, 0, (16, 18))
    stroke(copy, 7, (70, 60))
    settle(qtbot, tab)
    known = tab.desk.read(tab.canvas())
    assert len(known) == int((copy.data != original).sum()) > 0
    assert set(np.unique(known.values)) == {1, 8}
    assert np.array_equal(result.data, original)


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
