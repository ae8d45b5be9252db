"""The Click tab in a real window, with real events of the mouse and the keys."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtCore import Qt

from support.layers import discs
from support.overlap import overlap

SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
ALT = Qt.KeyboardModifier.AltModifier
BLOBS = ((20, 20), (60, 34), (36, 80), (76, 76))
RADIUS = 11


def scene(shape=(96, 104), seed=0):
    """A dark image with bright discs around :data:`BLOBS` in each plane."""
    return discs(BLOBS, shape, seed)


def truth(blob):
    rows, columns = np.indices((96, 104))
    return (rows - blob[0]) ** 2 + (columns - blob[1]) ** 2 < RADIUS**2


@pytest.fixture
def started(hand):
    """A session on :func:`scene`, ready for clicks: ``(hand, image layer)``."""
    image = hand.viewer.add_image(scene(), name="cells")
    hand.start()
    return hand, image


def labels_of(hand):
    layer = hand.clicking.ledger.layer
    return getattr(layer, "__wrapped__", layer)


def test_click_correct_by_a_second_click_and_commit(started):
    hand, image = started
    pixels = image.data.copy()
    said = hand.click(image, BLOBS[0])
    assert "px" in said
    assert "ms" in said
    assert "last click" in hand.tab.panel.stats.text()
    proposal = hand.clicking.layers.proposal
    assert proposal.data.shape[0] < 40, "only the object's box is held"
    area = int(proposal.data.sum())
    hand.click(image, (BLOBS[0][0], BLOBS[0][1] + 7), SHIFT)
    assert int(proposal.data.sum()) < area
    assert "1 positive, 1 negative" in hand.tab.panel.stats.text()
    said = hand.press("Return")
    labels = labels_of(hand)
    assert "Object 1" in said
    assert labels.name == "cells · clicked"
    assert labels.data[BLOBS[0]] == 1
    assert labels.data[BLOBS[0][0], BLOBS[0][1] + 7] == 0
    assert "1 object" in hand.tab.panel.stats.text()
    hand.click(image, BLOBS[1])
    hand.press("C")
    assert overlap(labels.data == 2, truth(BLOBS[1])) > 0.85
    assert np.array_equal(image.data, pixels)


def test_positive_and_negative_differ_in_shape_and_colour(started):
    hand, image = started
    hand.click(image, BLOBS[0])
    hand.press("T")
    hand.click(image, (BLOBS[0][0] + 16, BLOBS[0][1]))
    prompts = hand.clicking.layers.prompts
    assert len(prompts.data) == 2
    assert prompts.symbol[0] != prompts.symbol[1]
    assert not np.allclose(prompts.face_color[0], prompts.face_color[1])
    assert hand.tab.panel.buttons["toggle_polarity"].isChecked()
    hand.press("T")
    assert not hand.tab.panel.buttons["toggle_polarity"].isChecked()


def test_a_click_on_a_click_takes_it_back(started):
    hand, image = started
    hand.click(image, BLOBS[0])
    whole = hand.clicking.layers.proposal.data.copy()
    aside = (BLOBS[0][0], BLOBS[0][1] + 7)
    hand.click(image, aside, SHIFT)
    assert hand.clicking.layers.proposal.data.sum() < whole.sum()
    hand.click(image, aside)
    assert len(hand.clicking.layers.prompts.data) == 1
    assert np.array_equal(hand.clicking.layers.proposal.data, whole)
    hand.click(image, BLOBS[0])
    assert not len(hand.clicking.layers.prompts.data)
    assert not hand.clicking.layers.proposal.data.any()
    hand.press("Z", CONTROL)
    assert np.array_equal(hand.clicking.layers.proposal.data, whole)


def test_a_drag_moves_the_view_and_is_no_click(started):
    hand, image = started
    before = hand.viewer.scene.camera.center
    hand.drag(image, (30, 30), (60, 60))
    assert hand.viewer.scene.camera.center != before
    assert not len(hand.clicking.layers.prompts.data)


def test_undo_and_redo_go_through_clicks_and_commits(started):
    hand, image = started
    hand.click(image, BLOBS[0])
    hand.press("Return")
    labels = labels_of(hand)
    done = labels.data.copy()
    assert "commit" in hand.press("Z", CONTROL)
    assert not labels.data.any()
    assert hand.clicking.layers.proposal.data.any(), "the object is back to be corrected"
    hand.press("Z", CONTROL)
    assert not hand.clicking.layers.proposal.data.any()
    hand.press("Z", CONTROL | SHIFT)
    hand.press("Z", CONTROL | SHIFT)
    assert np.array_equal(labels.data, done)
    assert "nothing to redo" in hand.press("Z", CONTROL | SHIFT)


def test_ctrl_z_in_the_labels_layer_is_naparis_own(started):
    hand, image = started
    for blob in BLOBS[:2]:
        hand.click(image, blob)
        hand.press("Return")
    labels = labels_of(hand)
    hand.viewer.layers.selection.active = labels
    hand.press("Z", CONTROL)
    assert set(np.unique(labels.data)) == {0, 1}
    hand.press("Z", CONTROL | SHIFT)
    assert set(np.unique(labels.data)) == {0, 1, 2}
    hand.press("Z", CONTROL)
    hand.clicking.actions.back_to_clicks()
    hand.press("Z", CONTROL)  # the session's undo of the same commit finds nothing to do
    assert set(np.unique(labels.data)) == {0, 1}


def test_what_the_user_paints_stays_and_its_number_is_not_given_again(started):
    hand, image = started
    hand.click(image, BLOBS[0])
    hand.press("Return")
    labels = labels_of(hand)
    spot = (np.array([BLOBS[0][0]]), np.array([BLOBS[0][1]]))
    labels.data_setitem(spot, 7)
    assert "left alone" in hand.press("Z", CONTROL)
    assert labels.data[BLOBS[0]] == 7
    assert set(np.unique(labels.data)) == {0, 7}
    hand.press("R")
    hand.click(image, BLOBS[1])
    hand.press("Return")
    assert labels.data[BLOBS[1]] == 8


def test_the_keys_are_free_of_naparis_own_and_are_listed(started):
    from app_model.types import KeyBinding
    from napari.layers import Points
    from napari.settings import get_settings
    from qtpy.QtWidgets import QLabel

    from unet_studio.gui.click_pointer import KEYS, shown_key

    hand, _ = started
    others = ("labels", "shape", "vertex", "image", "vectors", "tracks", "surface", "polygon")
    others += ("brush", "label", "preserve", "_mode", "contrast", "plane", "direct")
    taken = {str(key) for key in (*Points.class_keymap, *hand.viewer.class_keymap)}
    for action, keys in get_settings().shortcuts.shortcuts.items():
        if "points" in action or not any(word in action for word in others):
            taken |= {str(key) for key in keys}
    assert {"P", "V", "Ctrl+Y"} <= taken, "the way to ask napari has changed"
    own = {str(KeyBinding.from_str(shown_key(key))) for keys, _, _ in KEYS for key in keys}
    assert not own & taken
    bound = {str(key) for key in hand.clicking.layers.prompts.keymap}
    assert own == bound
    text = " ".join(label.text() for label in hand.tab.panel.findChildren(QLabel))
    for keys, _, what in KEYS:
        assert what in text
        for key in keys:
            assert shown_key(key) in text


def test_correct_an_object_of_labels_that_were_there(hand):
    image = hand.viewer.add_image(scene(), name="cells")
    given = np.zeros((96, 104), np.uint8)
    given[14:27, 14:22] = 5  # half of the first blob
    given[70:80, 70:80] = 9
    labels = hand.viewer.add_labels(given, name="mine")
    hand.viewer.layers.selection.active = image
    hand.tab.form.labels_box.set_value(getattr(labels, "__wrapped__", labels))
    hand.start()
    assert "Taken" in hand.click(image, (20, 18), CONTROL)
    assert "corrects object 5" in hand.tab.panel.stats.text()
    hand.click(image, (20, 26))
    hand.press("Return")
    assert overlap(labels.data == 5, truth(BLOBS[0])) > 0.8
    assert set(np.unique(labels.data)) == {0, 5, 9}
    hand.press("E")
    assert "erased" in hand.click(image, (75, 75))
    assert set(np.unique(labels.data)) == {0, 5}
    hand.press("Z", CONTROL)
    assert set(np.unique(labels.data)) == {0, 5, 9}
    hand.click(image, BLOBS[1])
    hand.press("N")
    assert labels.data[BLOBS[1]] == 10


def test_a_small_type_grows_and_is_said(hand):
    image = hand.viewer.add_image(scene(), name="cells")
    given = np.zeros((96, 104), np.uint8)
    given[0, 0] = 255
    labels = hand.viewer.add_labels(given, name="mine")
    hand.viewer.layers.selection.active = image
    hand.tab.form.labels_box.set_value(getattr(labels, "__wrapped__", labels))
    hand.start()
    hand.click(image, BLOBS[0])
    assert "larger type" in hand.press("Return")
    assert labels.data.dtype == np.uint16
    assert labels.data[BLOBS[0]] == 256
    assert labels.data[0, 0] == 255
    hand.press("Z", CONTROL)
    assert labels.data.max() == 255


@pytest.mark.parametrize(("policy", "kept"), [("keep", True), ("overwrite", False)])
def test_the_policy_says_who_gets_the_pixels(hand, policy, kept):
    image = hand.viewer.add_image(scene(), name="cells")
    given = np.zeros((96, 104), np.uint16)
    given[BLOBS[0]] = 3
    labels = hand.viewer.add_labels(given, name="mine")
    hand.viewer.layers.selection.active = image
    hand.tab.form.labels_box.set_value(getattr(labels, "__wrapped__", labels))
    box = hand.tab.form.policy_box
    box.setCurrentIndex(box.findData(policy))
    hand.start()
    hand.click(image, BLOBS[0])
    hand.press("Return")
    assert bool(labels.data[BLOBS[0]] == 3) is kept
    assert labels.data[BLOBS[0][0], BLOBS[0][1] + 3] == 4


def test_pick_from_the_segment_result_says_so(hand, engine, qtbot):
    image = hand.viewer.add_image(scene(), name="cells")
    hand.studio.tabs.setCurrentIndex(0)
    hand.tab.update_forecast()
    hand.tab.run_button.click()
    qtbot.waitUntil(lambda: not hand.tab.runner.running, timeout=60_000)
    result = hand.viewer.layers[-1]
    hand.studio.tabs.setCurrentIndex(1)
    hand.viewer.layers.selection.active = image
    hand.start()
    said = hand.click(image, BLOBS[0], ALT)
    assert "icked from the result of fake" in said
    assert result.name in said
    there = result.data == result.data[BLOBS[0]]
    assert int(hand.clicking.layers.proposal.data.sum()) == int(there.sum())
    hand.press("Return")
    assert np.array_equal(labels_of(hand).data == 1, there)
    hand.press("G")
    assert "No Segment result" in hand.click(image, (5, 60))


def test_a_box_and_a_stroke_are_drawn(started):
    hand, image = started
    hand.press("B")
    row, column = BLOBS[2]
    hand.drag(image, (row - 13, column - 13), (row + 13, column + 13))
    proposal = hand.clicking.layers.proposal
    assert proposal.data.sum() > 200
    assert not len(hand.clicking.layers.shapes.data)
    assert hand.viewer.layers.selection.active.name == "Clicks on cells"
    hand.press("Return")
    assert overlap(labels_of(hand).data == 1, truth(BLOBS[2])) > 0.8
    row, column = BLOBS[1]
    stroke = np.array([[row, column - 4], [row, column + 4]])
    hand.clicking.layers.shapes.add_paths([stroke])
    hand.qtbot.wait(20)
    hand.wait()
    assert proposal.data.sum() > 200


def test_naparis_own_tool_for_points_clicks_too(started):
    hand, image = started
    prompts = hand.clicking.layers.prompts
    prompts.mode = "add"
    hand.click(image, BLOBS[0])
    hand.qtbot.wait(20)
    hand.wait()
    assert len(prompts.data) == 1
    assert hand.clicking.layers.proposal.data.any()
    prompts.selected_data = {0}
    prompts.remove_selected()
    hand.qtbot.wait(20)
    hand.wait()
    assert not hand.clicking.layers.proposal.data.any()


def test_the_window_lives_while_a_click_is_answered(started, monkeypatch):
    """Clicks that take long are answered in order, and the window goes on drawing."""
    hand, image = started
    session = hand.clicking.source._session
    slow = session.click
    order = []

    def click(position, positive=True):
        time.sleep(0.3)
        order.append(tuple(round(p) for p in position))
        return slow(position, positive)

    monkeypatch.setattr(session, "click", click)
    from qtpy.QtCore import QTimer

    beats = []
    timer = QTimer()
    timer.setInterval(10)
    timer.timeout.connect(lambda: beats.append(time.monotonic()))
    timer.start()
    for blob in BLOBS[:3]:
        hand.click(image, blob, wait=False)
    sent = len(order)
    hand.wait()
    timer.stop()
    assert sent < 3, "the clicks were not waited for"
    assert order == list(BLOBS[:3])
    assert len(beats) > 10
    assert len(hand.clicking.layers.prompts.data) == 3


def _lacks(monkeypatch, lacking_device, *error):
    from unet_studio.inference import devices
    from unet_studio.models import model as models

    load = models.load_model

    def load_for_cpus_only(source):
        loaded = load(source)
        return models.Model(loaded.card, lacking_device.OnlyOnCpus(loaded.network, *error).eval())

    monkeypatch.setattr(models, "load_model", load_for_cpus_only)
    monkeypatch.setattr(devices, "open_devices", lambda *_: ([lacking_device.DEVICE], None))


def _is_full(monkeypatch, lacking_device):
    error = MemoryError("CUDA out of memory. Tried to allocate 9 bytes.")
    _lacks(monkeypatch, lacking_device, error)


def _is_absent(monkeypatch, _lacking_device):
    from unet_studio.inference import devices

    monkeypatch.setattr(devices, "likely_device", lambda _: "cuda:99")


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        (_is_absent, "cuda:99 is not available"),
        (_lacks, "max_pool3d"),
        (_is_full, "ran out of memory"),
    ],
)
def test_F54_F58_F59_a_gpu_that_is_not_used_is_said_once(
    hand, monkeypatch, lacking_device, notifications, gpu, why
):
    gpu(monkeypatch, lacking_device)
    image = hand.viewer.add_image(scene(), name="cells")
    said = hand.start()
    assert "Click on an object" in said
    assert why in said
    assert "the CPU is used instead" in said
    (notice,) = [text for _, text in notifications() if why in text]
    assert "the CPU is used instead" in notice
    assert "CPU" not in hand.click(image, BLOBS[0])
    assert hand.clicking.layers.proposal.data.any()


def test_stopping_takes_only_our_layers(started):
    hand, image = started
    hand.click(image, BLOBS[0])
    hand.press("Return")
    labels = labels_of(hand)
    hand.tab.run_button.click()
    assert [layer.name for layer in hand.viewer.layers] == ["cells", "cells · clicked"]
    assert labels.data.any()
    assert hand.tab.run_button.text() == "Start clicking"
    assert "1 object" in hand.tab.summary.text()
    hand.start()
    hand.tab.form.labels_box.set_value(labels)
    hand.click(image, BLOBS[1])
    hand.press("Return")
    assert set(np.unique(labels.data)) == {0, 1, 2}
