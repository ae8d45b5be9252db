"""Clicks on every kind of layer, through slices, and while layers change under them."""

from __future__ import annotations

import json
import threading

import dask.array as da
import numpy as np
import pytest
from qtpy.QtCore import Qt
from scipy import ndimage

from support.layers import discs, plain
from support.overlap import overlap

SHIFT, CONTROL = Qt.KeyboardModifier.ShiftModifier, Qt.KeyboardModifier.ControlModifier
BLOB, OTHER = (40, 30), (52, 74)
PLAIN = {"name": "cells"}


def scene(shape=(96, 104), seed=0):
    """A dark image with two bright discs in each plane."""
    return discs((BLOB, OTHER), shape, seed)


def ball(shape=(9, 96, 104)):
    """A stack with a ball around plane 4 at :data:`BLOB`."""
    image = np.random.default_rng(1).integers(0, 25, shape, dtype=np.uint8)
    z, y, x = np.indices(shape)
    image[(9 * (z - 4) ** 2 + (y - BLOB[0]) ** 2 + (x - BLOB[1]) ** 2) < 144] += 180
    return image


def disc():
    rows, columns = np.indices((96, 104))
    return (rows - BLOB[0]) ** 2 + (columns - BLOB[1]) ** 2 < 121


ROTATED = {"rotate": 30, "scale": (0.5, 0.5), "translate": (100, -20)}
AFFINE = {"affine": [[0.8, 0.2, 5], [-0.1, 1.2, 3], [0, 0, 1]]}
KINDS = {
    "rotated": lambda: (scene(), ROTATED),
    "affine": lambda: (scene(), AFFINE),
    "rgb": lambda: (np.stack([scene()] * 3, axis=-1), {"rgb": True}),
    "channels": lambda: (np.stack([scene(), scene()]), {"axis_labels": ("c", "y", "x")}),
    "channels last": lambda: (
        np.stack([scene(), scene()], axis=-1),
        {"axis_labels": ("y", "x", "c"), "rgb": False},
    ),
    "multiscale": lambda: ([scene(), scene()[::2, ::2]], {"multiscale": True}),
    "dask": lambda: (da.from_array(scene(), chunks=32), {}),
}


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "channels last"])
def test_a_click_hits_what_is_under_the_cursor(hand, kind):
    data, options = KINDS[kind]()
    image = hand.viewer.add_image(data, name="cells", **options)
    hand.viewer.reset_view()
    position = (*([0] * (image.ndim - 2)), *BLOB)
    hand.start()
    hand.click(image, position)
    prompts, proposal = (
        plain(x) for x in (hand.clicking.layers.prompts, hand.clicking.layers.proposal)
    )
    shown = np.asarray(prompts.data_to_world(prompts.data[0]))
    wanted = np.asarray(image.data_to_world(position))
    assert np.allclose(shown[-2:], wanted[-2:], atol=1.5)
    assert proposal.get_value(wanted, world=True) == 1, "the proposal lies on the object"
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    assert labels.get_value(wanted, world=True) == 1
    assert overlap(np.asarray(labels.data).reshape(96, 104) == 1, disc()) > 0.85


def test_an_image_whose_channels_come_last(hand):
    data, options = KINDS["channels last"]()
    image = hand.viewer.add_image(data, name="cells", **options)
    hand.viewer.dims.order = (2, 0, 1)
    hand.viewer.reset_view()
    hand.start()
    hand.click(image, (*BLOB, 0))
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    assert labels.data.shape == (96, 104, 1)
    assert overlap(labels.data[..., 0] == 1, disc()) > 0.85
    hand.press("Z", CONTROL)
    assert not labels.data.any()


def test_through_slices_and_back(hand, qtbot):
    image = hand.viewer.add_image(ball(), name="stack", axis_labels=("z", "y", "x"))
    hand.viewer.dims.set_current_step(0, 4)
    hand.start()
    hand.click(image, (4, *BLOB))
    proposal = plain(hand.clicking.layers.proposal)
    assert proposal.data.shape[0] == 1
    panel = hand.tab.panel
    assert panel.propagate_button.isVisible()
    panel.propagate_button.click()
    assert panel.propagate_button.text() == "Cancel"
    said = hand.wait()
    assert "slices" in said
    planes = proposal.data.shape[0]
    assert 5 <= planes <= 9
    hand.press("Z", CONTROL)
    assert proposal.data.shape[0] == 1
    hand.press("Z", CONTROL | SHIFT)
    assert proposal.data.shape[0] == planes
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    assert len(np.unique(np.nonzero(labels.data)[0])) == planes
    hand.viewer.layers.selection.active = labels
    hand.press("Z", CONTROL)
    assert not labels.data.any(), "all planes are one step of the labels' own undo"


def test_the_proposal_is_shown_on_its_own_slice_alone(hand):
    image = hand.viewer.add_image(ball(), name="stack", axis_labels=("z", "y", "x"))
    hand.viewer.dims.set_current_step(0, 4)
    hand.start()
    hand.click(image, (4, *BLOB))
    with_it = hand.viewer.screenshot(canvas_only=True, flash=False).astype(int)
    hand.clicking.layers.proposal.visible = hand.clicking.layers.prompts.visible = False
    without = hand.viewer.screenshot(canvas_only=True, flash=False).astype(int)
    shown = (np.abs(with_it - without).max(axis=-1) > 30).sum()
    assert shown > 100
    hand.viewer.dims.set_current_step(0, 1)
    without = hand.viewer.screenshot(canvas_only=True, flash=False).astype(int)
    hand.clicking.layers.proposal.visible = hand.clicking.layers.prompts.visible = True
    other = hand.viewer.screenshot(canvas_only=True, flash=False).astype(int)
    # A highlight under the pointer may come or go.
    assert (np.abs(other - without).max(axis=-1) > 30).sum() < shown / 2


def test_a_propagation_is_cancelled_between_planes(hand, qtbot, monkeypatch):
    import time

    from unet_studio.clicks import propagation

    follow = propagation.follow

    def slow(eye, last):
        time.sleep(0.2)
        return follow(eye, last)

    monkeypatch.setattr(propagation, "follow", slow)
    data = np.repeat(scene()[None], 40, axis=0)
    image = hand.viewer.add_image(data, name="movie", axis_labels=("t", "y", "x"))
    hand.viewer.dims.set_current_step(0, 0)
    hand.start()
    hand.click(image, (0, *BLOB))
    panel = hand.tab.panel
    panel.propagate_button.click()
    qtbot.waitUntil(lambda: "done" in panel.count.text(), timeout=20_000)
    panel.propagate_button.click()
    assert "frames" in hand.wait()
    assert 2 <= hand.clicking.layers.proposal.data.shape[0] < 40
    assert panel.propagate_button.text() == "Propagate"


def test_three_dimensions_are_refused_in_words(hand):
    image = hand.viewer.add_image(ball(), name="stack", axis_labels=("z", "y", "x"))
    hand.start()
    hand.viewer.dims.ndisplay = 3
    from qtpy.QtTest import QTest

    QTest.mouseClick(hand.canvas, Qt.MouseButton.LeftButton, pos=hand.canvas.rect().center())
    assert "flat view" in hand.wait()
    assert image.data.shape == (9, 96, 104)


def test_outside_the_image_nothing_happens(hand):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.viewer.scene.camera.zoom = 3
    hand.start()
    assert "outside" in hand.click(image, (-15, 30))
    assert not len(hand.clicking.layers.prompts.data)


# -- F40 to F44 of the list of faults ---------------------------------------------


def test_f40_f41_names_do_not_matter(hand):
    image = hand.viewer.add_image(scene(), **PLAIN)
    twin = hand.viewer.add_image(np.zeros((96, 104), np.uint8), name="cells")
    twin.name = "cells"
    hand.viewer.layers.selection.active = image
    hand.start()
    image.name, hand.clicking.layers.prompts.name = "renamed", "mine"
    hand.click(image, BLOB)
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    assert labels.name == "renamed · clicked"
    assert overlap(labels.data == 1, disc()) > 0.85
    assert not twin.data.any()
    hand.viewer.layers.selection.active = twin
    assert hand.tab.form.layer_box.value() is plain(image), "the session keeps to its image"


def test_f42_the_image_is_removed(hand, notifications):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    hand.click(image, OTHER, wait=False)
    hand.viewer.layers.remove(image)
    assert "was removed" in hand.wait()
    assert hand.clicking is None
    assert [layer.name for layer in hand.viewer.layers] == ["cells · clicked"]
    assert labels.data.max() == 1
    assert len(notifications()) == 1


@pytest.mark.parametrize("which", ["prompts", "proposal", "labels"])
def test_f42_other_layers_are_removed(hand, which):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    labels = hand.clicking.ledger.layer
    gone = labels if which == "labels" else getattr(hand.clicking.layers, which)
    hand.click(image, OTHER)
    hand.viewer.layers.remove(gone)
    assert "removed" in hand.wait()
    if which != "labels":
        assert hand.clicking is None
        hand.qtbot.waitUntil(lambda: len(hand.viewer.layers) == 2)
        return
    hand.press("Return")
    assert hand.clicking.ledger.layer is not labels
    assert overlap(labels.data == 1, disc()) > 0.85, "what the user took away is not touched"


def test_f43_the_image_becomes_another_shape(hand, notifications):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.click(image, OTHER, wait=False)
    image.data = np.zeros((50, 60), np.uint8)
    assert "changed while it was clicked" in hand.wait()
    assert hand.clicking is None
    assert len(notifications()) == 1
    assert hand.tab.run_button.isEnabled()


def test_f44_new_pixels_are_seen_by_the_next_click(hand):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    moved = np.roll(scene(), 30, axis=1)
    image.data = moved
    assert "replaced" in hand.tab.summary.text()
    hand.wait()
    hand.press("R")
    hand.click(image, (BLOB[0], BLOB[1] + 30))
    hand.press("Return")
    first = hand.clicking.ledger.layer.data.copy()
    assert overlap(first == 1, np.roll(disc(), 30, axis=1)) > 0.85
    image.data[:] = scene()  # in place: no event tells of it
    hand.click(image, BLOB)
    hand.press("Return")
    assert overlap(hand.clicking.ledger.layer.data == 2, disc() & (first == 0)) > 0.7


def test_our_layers_follow_the_image(hand):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    image.scale, image.translate = (2, 2), (50, 0)
    proposal = plain(hand.clicking.layers.proposal)
    assert proposal.get_value(image.data_to_world(BLOB), world=True) == 1
    prompts = hand.clicking.layers.prompts
    assert np.allclose(prompts.data_to_world(prompts.data[0]), image.data_to_world(BLOB), atol=2)


def test_annotations_that_do_not_fit_into_memory_are_refused_with_advice():
    from napari.layers import Image

    from unet_studio.errors import ClickError
    from unet_studio.gui.click_source import ClickSource
    from unet_studio.gui.click_state import Setup

    shape = (2**30, 512, 512)  # no memory is taken by pixels that are all the same one
    image = Image(
        np.broadcast_to(np.uint8(9), shape), axis_labels=("z", "y", "x"), contrast_limits=(0, 255)
    )
    with pytest.raises(ClickError, match=r"not enough memory for annotations .* Open the part"):
        ClickSource(Setup(image, None, None, None)).objects_to_learn(image.data, ())


# -- what stays --------------------------------------------------------------------


def test_a_killed_session_is_restored_from_its_journal(hand, tmp_path):
    from unet_studio.gui.click_journal import journals_folder

    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    hand.click(image, OTHER)
    hand.click(image, (OTHER[0], OTHER[1] + 7), SHIFT)
    committed = hand.clicking.ledger.layer.data.copy()
    proposal = hand.clicking.layers.proposal.data.copy()
    (kept,) = journals_folder().glob("*.jsonl")  # as a kill would leave it
    lines = kept.read_text().splitlines()
    assert [json.loads(line).get("do") for line in lines[1:]] == [
        "click",
        "commit",
        "click",
        "click",
    ]
    hand.tab.save_journal(tmp_path / "mine.jsonl")
    hand.wait()
    assert (tmp_path / "mine.jsonl").read_text() == kept.read_text()
    hand.tab.run_button.click()
    hand.viewer.layers.remove("cells · clicked")
    hand.tab.start(kept)
    hand.wait()
    assert np.array_equal(hand.clicking.ledger.layer.data, committed)
    assert np.array_equal(hand.clicking.layers.proposal.data, proposal)
    assert len(hand.clicking.layers.prompts.data) == 2
    hand.press("R")
    for _ in range(4):  # the reset, two clicks, the commit
        hand.press("Z", CONTROL)
    assert not hand.clicking.ledger.layer.data.any()


def test_a_journal_of_another_image_is_refused_in_words(hand, tmp_path, notifications):
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.tab.save_journal(tmp_path / "mine.jsonl")
    hand.wait()
    hand.tab.run_button.click()
    hand.viewer.layers.remove(image)
    # As when a person does it: painted in between. Else some graphics drivers crash (napari 8471).
    hand.wait()
    hand.viewer.add_image(scene((60, 70))[:50], name="other")
    hand.tab.start(tmp_path / "mine.jsonl")
    assert "journal" in hand.wait()
    assert hand.clicking is None
    assert [layer.name for layer in hand.viewer.layers] == ["other"]
    assert len(notifications()) == 1


def test_objects_become_annotations_to_learn_from(hand, monkeypatch):
    from unet_studio.clicks import exporting

    where = []

    def write(*arguments, plain=exporting.write_annotations):
        where.append(threading.current_thread().name)
        return plain(*arguments)

    monkeypatch.setattr(exporting, "write_annotations", write)
    image = hand.viewer.add_image(scene(), **PLAIN)
    hand.start()
    hand.click(image, BLOB)
    hand.press("Return")
    hand.tab.panel.learn_button.click()
    assert "annotations" in hand.wait()
    assert where == ["unet-studio-clicks"], "not on the thread of the window"
    layer = hand.viewer.layers["cells · objects to learn"]
    labels = hand.clicking.ledger.layer.data
    assert np.array_equal(layer.data == 2, labels == 1)
    ring = ndimage.binary_dilation(labels == 1, iterations=2) & (labels == 0)
    assert np.array_equal(layer.data == 1, ring)
    assert np.allclose(layer.scale, image.scale)
    assert hand.viewer.layers.selection.active.name == "Clicks on cells"
    titles = [hand.studio.tabs.tabText(i) for i in range(hand.studio.tabs.count())]
    refine = hand.studio.tabs.widget(titles.index("Refine"))
    hand.qtbot.waitUntil(lambda: bool(refine.desk.canvases), timeout=5000)
    assert [c.labels.unique_id for c in refine.desk.canvases] == [layer.unique_id]
    hand.qtbot.waitUntil(lambda: not refine.desk.saving(), timeout=10_000)
    assert refine.run_button.isEnabled()
