"""Whatever napari lets the user do to a layer is known afterwards, and costs what it covers."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QObject

from unet_studio.gui.canvas import make_canvas
from unet_studio.gui.input_form import InputChoice
from unet_studio.gui.sheet import Sheet
from unet_studio.training.annotations import annotate

STACK = {"axis_labels": ("z", "y", "x")}
LAST = {"axis_labels": ("y", "x", "c"), "rgb": False}


class Painted:
    """A sheet on a new canvas in a viewer without a window."""

    def __init__(self, shape, kind="classes", **options):
        self.parent, self.viewer, self.written = QObject(), ViewerModel(), []
        image = self.viewer.add_image(np.zeros(shape, np.uint8), name="image", **options)
        choice = InputChoice(image, None, 0, None, "balanced", False, "xy", False)
        self.canvas = make_canvas(choice, kind)
        write = self.written.append
        self.sheet = Sheet(self.viewer, self.canvas, write, None, self.parent)
        self.layer = self.canvas.labels
        self.layer.mode = "paint"
        self.viewer.add_layer(self.layer)
        self.settle()

    def settle(self):
        self.sheet.flush()

    def marked(self):
        """Whether something would be read; it is read."""
        _, marks = self.sheet._watch.take()
        self.sheet._watch.give_back(marks)
        self.sheet.read()
        return int(marks.sum())

    def check(self):
        canvas = self.canvas
        mode = "objects" if canvas.kind == "objects" else "classes"
        there = annotate(canvas.array(), canvas.axes, mode=mode)
        known = self.sheet.read()
        np.testing.assert_array_equal(known.places, there.places)
        np.testing.assert_array_equal(known.values, there.values)
        return known


@pytest.fixture
def painted(qapp):
    return Painted


def drag(layer, start, stop, label):
    """Paint as the mouse does: a stroke of many moves, which is one step to undo."""
    layer._begin_stroke()
    last = None
    for part in np.linspace(0, 1, 12):
        here = tuple(a + (b - a) * part for a, b in zip(start, stop, strict=True))
        layer._draw(label, last, here)
        last = here
    yield  # before the button is released
    layer._commit_stroke()


def test_strokes_and_their_ends(painted):
    one = painted((900, 5000))
    one.layer.mode = "paint"
    stroke = drag(one.layer, (40, 2040), (300, 2100), 2)
    next(stroke)
    assert one.check(), "known before the button is released"
    assert next(stroke, None) is None
    assert one.check()
    one.layer.mode = "erase"
    list(drag(one.layer, (100, 2040), (120, 2100), 0))
    one.check()
    one.layer.mode = "fill"
    one.layer.fill((40, 2040), 5)
    one.check()
    one.layer.paint_polygon([[500, 100], [500, 4000], [800, 300]], 3)
    one.check()
    one.layer.data_setitem((np.array([3, 899]), np.array([4999, 0])), np.array([1, 7]))
    assert one.check().values.max() == 7


def test_undo_and_redo(painted):
    one = painted((300, 400))
    for row in (20, 60, 100):
        list(drag(one.layer, (row, 50), (row, 90), 2))
    first = len(one.check())
    one.layer.undo()
    second = len(one.check())
    one.layer.undo()
    assert len(one.check()) < second < first
    one.layer.redo()
    one.layer.redo()
    assert len(one.check()) == first


def test_undo_alone_is_saved(painted, qtbot):
    one = painted((300, 400))
    list(drag(one.layer, (20, 50), (20, 90), 2))
    qtbot.waitUntil(lambda: not one.sheet.busy, timeout=5000)
    assert len(one.written[-1]) > 100
    one.layer.undo()
    qtbot.waitUntil(lambda: not one.sheet.busy and not len(one.written[-1]), timeout=5000)


def test_other_pixels_and_another_shape(painted):
    one = painted((300, 400))
    list(drag(one.layer, (20, 50), (20, 90), 2))
    one.check()
    data = np.zeros((300, 400), np.uint8)
    data[7, 8] = 3
    one.layer.data = data
    assert len(one.check()) == 1
    one.layer.data = np.ones((30, 50), np.uint8)
    assert len(one.check()) == 1500
    data[9, 9] = 3
    one.layer.data = data
    one.check()
    data[:5] = 2  # napari tells nobody
    assert len(one.sheet.read()) == 2
    assert len(one.sheet.read_all()) == 2 + 5 * 400


@pytest.mark.parametrize("edited", [2, 3])
def test_planes_of_a_stack_and_brushes_that_reach_through_them(painted, edited):
    one = painted((9, 200, 300), **STACK)
    one.layer.n_edit_dimensions = edited
    one.layer.brush_size = 7
    for plane in (0, 4, 8):
        one.viewer.dims.set_current_step(0, plane)
        stroke = drag(one.layer, (plane, 40, 50), (plane, 90, 60), 2)
        next(stroke)
        one.check()
        list(stroke)
    planes = set(one.check().places[:, 0].tolist())
    assert len(planes) == (3 if edited == 2 else 9)
    one.viewer.dims.order = (1, 0, 2)
    one.viewer.dims.set_current_step(1, 120)
    list(drag(one.layer, (2, 120, 50), (6, 120, 60), 2))
    one.check()


def test_an_image_whose_channels_come_last(painted):
    one = painted((200, 300, 2), **LAST)
    one.viewer.dims.order = (2, 0, 1)
    assert one.layer.data.shape == (200, 300, 1)
    list(drag(one.layer, (40, 50, 0), (90, 60, 0), 2))
    assert len(one.check()) > 100
    assert np.shares_memory(one.canvas.array(), one.layer.data)
    one.layer.undo()
    assert not len(one.check())


def test_looking_at_other_slices_reads_nothing(painted):
    one = painted((9, 200, 300), **STACK)
    list(drag(one.layer, (0, 40, 50), (0, 90, 60), 2))
    one.check()
    assert one.marked() == 0
    for plane in (1, 2, 3, 2, 8):
        one.viewer.dims.set_current_step(0, plane)
    one.viewer.dims.order = (1, 0, 2)
    one.viewer.dims.ndisplay = 3
    assert one.marked() == 0


def test_a_stroke_marks_the_tiles_that_it_covers(painted):
    one = painted((3000, 20_000))
    one.layer.brush_size = 10
    one.check()
    list(drag(one.layer, (1000, 9000), (1020, 9200), 2))
    assert 1 <= one.marked() <= 4


def test_what_has_not_changed_is_not_written(painted):
    one = painted((300, 400))
    one.layer.refresh()
    one.settle()
    assert one.written == [], "nothing was ever painted"
    list(drag(one.layer, (20, 50), (20, 90), 2))
    one.settle()
    assert len(one.written) == 1
    one.layer.refresh()
    one.settle()
    assert len(one.written) == 1


def test_what_could_not_be_read_is_read_later(painted):
    one = painted((300, 400))
    list(drag(one.layer, (20, 50), (20, 90), 2))
    real, one.canvas.labels.data = one.layer.data, np.zeros((3, 300, 400), np.uint8)
    with pytest.raises(Exception, match="dimensions"):
        one.sheet.read()
    one.layer.data = real
    one.check()


def test_a_new_object_gets_a_free_number(painted):
    one = painted((300, 400), kind="objects")
    assert one.canvas.free_number(one.sheet.read()) == 2
    list(drag(one.layer, (20, 50), (20, 90), 8))
    assert one.canvas.free_number(one.sheet.read()) == 9
