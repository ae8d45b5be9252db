"""What is held back lies a receptive field away from all that is learned from (P22)."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_studio.training import regions
from unet_studio.training.annotations import Box, annotate
from unet_studio.training.regions import (
    CELL,
    LEAST_HELD_BACK,
    filled,
    find_regions,
    split_annotations,
    without,
)


def dots(shape, places, kinds):
    labels = np.zeros(shape, np.uint8)
    for place, kind in zip(places, kinds, strict=True):
        labels[tuple(slice(p, p + 2) for p in place)] = kind
    return labels


def test_regions_are_connected_pieces_of_one_class_in_one_frame():
    labels = np.zeros((2, 30, 30), np.uint8)
    labels[0, 5, 5:10] = 1
    labels[0, 6, 10:12] = 1  # touches at a corner
    labels[0, 7, 5:10] = 2
    labels[1, 5, 5:10] = 1
    regions = find_regions(annotate(labels, "TYX"), 2, exercise=3)
    assert sorted((r.frame, r.kind, len(r.places)) for r in regions) == [
        ((0,), 1, 7),
        ((0,), 2, 5),
        ((1,), 1, 5),
    ]
    assert {r.exercise for r in regions} == {3}
    assert len(find_regions(annotate(labels, "ZYX"), 3)) == 2  # frames touch in 3D


def test_dense_annotations_are_cut_into_cells():
    labels = np.ones((3 * CELL, 2 * CELL), np.uint8)
    assert len(find_regions(annotate(labels), 2)) == 6


def test_objects_are_regions_of_one_kind():
    labels = np.array([[1, 0, 7, 0, 9]])
    kinds = [r.kind for r in find_regions(annotate(labels, mode="objects"), 2)]
    assert sorted(kinds) == [1, 2, 2]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 200),
    frames=st.integers(1, 4),
    halo=st.integers(0, 60),
)
def test_P22_held_back_and_training_are_apart_by_the_receptive_field(seed, count, frames, halo):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, (frames, 148, 148), (count, 3))
    labels = np.zeros((frames, 150, 150), np.uint8)
    for (t, y, x), kind in zip(places, rng.integers(1, 3, count), strict=True):
        labels[t, y : y + 2, x : x + 2] = kind
    annotations = annotate(labels, "TYX")
    split = split_annotations([annotations], (halo, halo), seed)
    if not split.held_back:
        assert np.array_equal(split.training[0].dense(), annotations.dense())
        return
    assert len(split.judging) >= LEAST_HELD_BACK
    assert split.held_back == (*split.judging, *split.choosing)
    learned = split.training[0].places
    chosen_by = [np.insert(r.places, 0, r.frame, axis=1) for r in split.choosing]
    for parts, others in ((split.held_back, [learned]), (split.judging, chosen_by)):
        for region in parts:
            here = np.concatenate([o[o[:, 0] == region.frame[0]][:, 1:] for o in others] or [[]])
            gaps = np.abs(here.reshape(-1, 1, 2) - region.places[None]).max(axis=2)
            assert not len(here) or gaps.min() > halo
    assert {r.kind for r in split.judging} == {1, 2} == set(split.training[0].values)
    assert {r.kind for r in split.choosing} in (set(), {1, 2})


@pytest.mark.parametrize(("images", "choosing"), [(12, 0), (46, 0), (48, 8), (80, 13)])
def test_P22_of_many_regions_a_third_of_those_held_back_chooses(images, choosing):
    """Of few none does: then all judge."""
    labels = dots((40, 40), [(5, 5), (20, 20)], [1, 2])
    split = split_annotations([annotate(labels)] * images, (3, 3))
    assert len(split.choosing) == choosing
    assert len(split.held_back) == max(LEAST_HELD_BACK, round(0.25 * 2 * images))
    seen = {(r.exercise, r.kind) for r in split.held_back}
    assert len(seen) == len(split.held_back)
    # Of images in which all are near each other, each serves one of the two.
    close = split_annotations([annotate(labels)] * images, (96, 96))
    judging, chosen = ({r.exercise for r in part} for part in (close.judging, close.choosing))
    assert not judging & chosen


def test_other_images_and_frames_are_apart():
    labels = dots((40, 40), [(5, 5), (20, 20)], [1, 2])
    split = split_annotations([annotate(labels)] * 12, (96, 96))
    assert len(split.held_back) >= LEAST_HELD_BACK
    stack = annotate(np.stack([labels] * 12), "ZYX")
    assert split_annotations([stack], (96, 96)).held_back


@pytest.mark.parametrize(
    "labels",
    [
        dots((40, 40), [(5, 5), (20, 20)], [1, 2]),  # two regions
        dots((90, 90), [(i, 3 * i) for i in range(0, 28, 2)], [1, 2] * 7),  # all in one place
        dots((900, 900), [(100 * i, 5) for i in range(9)], [1] * 9),  # one class
    ],
    ids=["few", "close", "one class"],
)
def test_F90_where_too_little_can_be_held_back_all_is_learned_from(labels):
    annotations = annotate(labels)
    split = split_annotations([annotations], (96, 96))
    assert split.held_back == ()
    assert np.array_equal(split.training[0].dense(), labels)


def test_new_strokes_near_what_is_held_back_are_left_out():
    labels = dots((40, 40), [(5, 5), (30, 30)], [1, 2])
    held = find_regions(annotate(labels), 2)[:1]
    near, far = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    near[16, 5], far[17, 5] = 1, 1
    assert len(without(annotate(near), held, 0, (10, 10))) == 0
    assert len(without(annotate(far), held, 0, (10, 10))) == 1
    assert len(without(annotate(near), held, 1, (10, 10))) == 1  # another image


def test_background_of_a_large_complete_box_is_written_out_around_what_is_painted(monkeypatch):
    """A box as large as a slide: all of its background would fill the memory."""
    monkeypatch.setattr(regions, "MOST_FILLED", 200_000)
    shape, edge = (3, 20_000, 20_000), 20_000
    small = annotate(np.zeros((3, 1, 1), np.uint8), "TYX", mode="objects")
    empty = replace(small, shape=shape)
    corners = ((0, 100, 100), (1, 19_000, 40), (1, 9_000, 9_000))
    places = np.array(sorted((t, y + i, x) for t, y, x in corners for i in range(8)))
    strokes = empty.with_pixels(places, np.full(len(places), 7))
    boxes = (Box((0, 0, 0), (1, edge, edge)), Box((1, 0, 0), (2, edge, edge)))
    tracemalloc.start()
    after = filled(replace(strokes, complete=boxes))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert after.complete == ()
    assert 100_000 < len(after) <= 200_000 + len(places)
    keys = np.ravel_multi_index(tuple(after.places.T), shape)
    assert (np.diff(keys) > 0).all()  # sorted, each once
    assert (after.values == 7).sum() == len(places)
    for t, y, x in corners:
        start, stop = (t, max(0, y - 20), max(0, x - 20)), (t + 1, y + 28, x + 21)
        assert (after.block(start, stop) > 0).all()
    assert not (after.places[:, 0] == 2).any()
    far = np.abs(after.places[:, None] - np.array(corners)).max(axis=2).min(axis=1)
    assert (far > 1000).any()  # not only there


def test_background_of_complete_boxes_is_written_out():
    labels = np.zeros((10, 10), np.uint8)
    labels[2:4, 2:4], labels[8, 8] = 5, 1
    before = annotate(labels, mode="objects", complete=[Box((1, 1), (6, 6))])
    after = filled(before)
    assert after.complete == ()
    assert np.array_equal(after.dense(), before.dense())
    assert np.array_equal(after.places, np.argwhere(before.dense()))  # sorted
