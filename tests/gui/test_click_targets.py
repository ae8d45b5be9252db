"""Labels that objects go to: hidden ones, small types, those that others write to."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import Qt

CONTROL = Qt.KeyboardModifier.ControlModifier
BLOB, OTHER = (40, 30), (52, 74)


def scene(shape=(96, 104)):
    image = np.random.default_rng(0).integers(0, 25, shape, dtype=np.uint8)
    rows, columns = np.indices(shape[-2:])
    for row, column in (BLOB, OTHER):
        image[..., (rows - row) ** 2 + (columns - column) ** 2 < 121] += 180
    return image


def plain(layer):
    return getattr(layer, "__wrapped__", layer)


def begin(hand, labels, **options):
    image = hand.viewer.add_image(scene(), name="cells")
    layer = hand.viewer.add_labels(labels, name="mine", **options)
    hand.viewer.layers.selection.active = image
    return image, layer


@pytest.mark.parametrize("visible", [True, False])
def test_hidden_labels_of_a_small_type_grow(hand, visible):
    given = np.zeros((96, 104), np.uint8)
    given[0, 0] = 255
    image, layer = begin(hand, given, visible=visible)
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


def test_an_id_that_a_script_wrote_is_not_given_again(hand):
    image, layer = begin(hand, np.zeros((96, 104), np.uint16))
    hand.tab.form.labels_box.set_value(plain(layer))
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    layer.data[0, 0] = 2  # in place: napari tells nobody
    hand.click(image, OTHER)
    hand.press("Return")
    assert layer.data[OTHER] == 3


def test_labels_that_are_computed_are_not_offered_and_it_is_said_why(hand):
    image, layer = begin(hand, da.zeros((96, 104), dtype=np.uint16, chunks=32))
    box = hand.tab.form.labels_box
    assert "mine" not in [box.itemText(i) for i in range(box.count())]
    assert f"Not listed: '{layer.name}'. A dask array" in box.toolTip()
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    assert hand.clicking.ledger.layer.name == "cells · clicked"
