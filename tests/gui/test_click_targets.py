"""Labels that objects go to: hidden ones, small types, those that others write to."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr
from qtpy.QtCore import Qt

from support.layers import plain

CONTROL = Qt.KeyboardModifier.ControlModifier
BLOB, OTHER = (40, 30), (52, 74)


@pytest.fixture
def begin(hand, two_discs):
    """Show an image and labels: ``begin(labels)`` returns both layers."""

    def show(labels, **options):
        image = hand.viewer.add_image(two_discs(), name="cells")
        layer = hand.viewer.add_labels(labels, name="mine", **options)
        hand.viewer.layers.selection.active = image
        return image, layer

    return show


@pytest.mark.parametrize("visible", [True, False])
def test_hidden_labels_of_a_small_type_grow(hand, visible, begin):
    given = np.zeros((96, 104), np.uint8)
    given[0, 0] = 255
    image, layer = begin(given, visible=visible)
    hand.tab.form.labels_box.set_value(plain(layer))
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    assert layer.data.dtype == np.uint16
    assert layer.data[BLOB] == 256
    assert layer.data[0, 0] == 255
    assert layer.visible is visible
    hand.press("Z", CONTROL)
    assert layer.data.max() == 255


def test_an_id_that_a_script_wrote_is_not_given_again(hand, begin):
    image, layer = begin(np.zeros((96, 104), np.uint16))
    hand.tab.form.labels_box.set_value(plain(layer))
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    layer.data[0, 0] = 2  # in place: napari tells nobody
    hand.click(image, OTHER)
    hand.press("Return")
    assert layer.data[OTHER] == 3


def test_labels_that_are_computed_are_not_offered_and_it_is_said_why(hand, begin):
    image, layer = begin(da.zeros((96, 104), dtype=np.uint16, chunks=32))
    box = hand.tab.form.labels_box
    assert "mine" not in [box.itemText(i) for i in range(box.count())]
    assert f"Not listed: '{layer.name}'. A dask array" in box.toolTip()
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    assert hand.clicking.ledger.layer.name == "cells · clicked"


def test_what_gives_an_object_no_pixel_is_said_as_the_window_names_it(hand, begin):
    image, layer = begin(np.full((96, 104), 3, np.uint16))
    hand.tab.form.labels_box.set_value(plain(layer))
    hand.start()
    hand.click(image, BLOB)
    said = hand.press("Return")
    assert "Nothing was changed" in said
    assert "Choose 'The new object takes them' for Overlaps" in said
    assert "policy" not in said
    hand.tab.form.policy_box.setCurrentIndex(1)
    hand.press("Return")
    assert layer.data[BLOB] == 4


def test_undo_of_a_restored_session_finds_the_labels_it_was_restored_to(hand, tmp_path, two_discs):
    image = hand.viewer.add_image(two_discs(), name="cells")
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    hand.tab.save_journal(tmp_path / "mine.jsonl")
    hand.wait()
    hand.clicking.end()
    hand.tab.start(tmp_path / "mine.jsonl")
    hand.wait()
    restored = hand.clicking.ledger.layer
    assert restored.data[BLOB] == 1
    stored = zarr.create_array(
        tmp_path / "mine.zarr", shape=(96, 104), dtype="uint16", chunks=(32, 32)
    )
    stored[:] = np.asarray(restored.data)  # the same number in the same place
    hand.viewer.add_labels(stored, name="mine")
    hand.tab.form.labels_box.set_value(plain(hand.viewer.layers["mine"]))
    hand.wait()
    hand.clicking.actions.undo()
    hand.wait()
    assert hand.clicking.counted == 0
    assert restored.data[BLOB] == 0
    assert stored[BLOB] == 1, "labels that it was not in were changed"
    hand.clicking.actions.redo()
    hand.wait()
    assert restored.data[BLOB] == 1
    assert hand.clicking.counted == 1
