"""Refine in a real window: paint, train, compare, adopt, and go back."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from support.strokes import paint_both, settle, show_refine, stroke, train
from unet_studio.models.files import read_card


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


def test_another_view_is_shown_in_the_same_layer(open_refine, qtbot):
    """Taking a layer out and putting in another costs a fifth of a second of painting."""
    viewer, tab, _ = open_refine()
    tab.painting.paint.click()
    paint_both(viewer.layers.selection.active)
    train(qtbot, tab)
    layer, glimpse = tab.overlay.layer, tab.overlay.glimpse
    start, stop = glimpse.view.start, glimpse.view.stop
    smaller = replace(
        glimpse,
        view=replace(glimpse.view, start=(start[0] + 3, start[1] + 5), stop=stop),
        foreground=glimpse.foreground[3:, 5:],
        uncertainty=glimpse.uncertainty[3:, 5:],
    )
    shown = layer.extent.world
    tab.overlay.show(tab.canvas(), smaller)
    assert tab.overlay.layer is layer
    assert np.array_equal(np.squeeze(layer.data), smaller.foreground)
    moved = layer.extent.world - shown
    scale = np.asarray(layer.scale)[-2:]
    np.testing.assert_allclose(moved[:, -2:], [[3, 5] * scale, [0, 0]], atol=1e-4)
    place = tab.canvas().placement
    larger = replace(tab.canvas(), placement=replace(place, scale=2 * place.scale))
    tab.overlay.show(larger, smaller)  # another image, or the same one rescaled
    np.testing.assert_allclose(np.asarray(tab.overlay.layer.scale)[-2:], 2 * scale)


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


def test_the_next_training_is_told_whose_result_was_painted_on(open_refine, qtbot):
    viewer, tab, studio = open_refine()
    tab.painting.paint.click()
    layer = viewer.layers.selection.active
    paint_both(layer)
    settle(qtbot, tab)

    def asked():
        model = studio.header.value()
        request = tab.requests.make(model, tab.training, None, tab.canvas(), tab._result)
        return request.parent, request.corrects

    def told(number):
        return read_card(tab.desk.session.path(number)).training["refined"]["corrects"]

    assert asked() == (0, None)
    train(qtbot, tab)
    assert asked() == (0, 1)  # the new result is on the screen, and nothing is decided yet
    tab.training.start.setCurrentIndex(1)
    assert asked() == (0, 1)  # the current version is still the old one
    tab.training.start.setCurrentIndex(0)
    tab.run_button.click()
    assert not tab.card.isVisibleTo(tab)
    tab.training.cancel.click()
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=20_000)
    assert tab.card.isVisibleTo(tab)  # it can still be adopted
    assert asked() == (0, 1)  # what was painted on it still is
    tab.card.keep_old.click()
    assert not tab.card.isVisibleTo(tab)
    assert asked() == (0, None)
    tab.versions.list.setCurrentRow(0)
    tab.versions.use.click()
    assert asked() == (0, 1)
    tab.training.start.setCurrentIndex(1)
    assert asked() == (1, None)  # it knows what it found itself
    tab.training.start.setCurrentIndex(0)

    stroke(layer, 1, (6, 60))
    settle(qtbot, tab)
    train(qtbot, tab)
    assert told(1) is None
    assert told(2) == read_card(tab.desk.session.path(1)).name
    tab.training.classes.setText("something else")
    train(qtbot, tab)
    assert told(3) is None  # what was found were other things
    tab.card.keep_old.click()
    tab.training.classes.setText("")
    tab.desk.session.path(1).write_bytes(b"damaged")
    warned = []
    tab.runner.warned.connect(warned.append)
    train(qtbot, tab)
    assert told(4) is None
    assert any("is not learned" in text for text in warned)
