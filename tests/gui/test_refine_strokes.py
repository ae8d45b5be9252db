"""What is painted for Refine comes back, stays where it lies, and is learned from."""

from __future__ import annotations

import numpy as np
import pytest

from support.strokes import paint_both, settle, show_refine, stroke, train


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
