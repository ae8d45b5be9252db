"""Threshold, argmax and connected components on pictures small enough to read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from unet_studio.objects.cleaning import fill_label_holes, scan_order
from unet_studio.objects.components import ComponentsOptions, components
from unet_studio.objects.masks import (
    ArgmaxOptions,
    ThresholdOptions,
    argmax,
    foreground_mask,
    likeliest_class,
)


def picture(*rows: str) -> np.ndarray:
    """An image of digits; a dot is 0."""
    return np.array([[int(c.replace(".", "0")) for c in row] for row in rows])


def test_threshold_is_exclusive():
    probabilities = np.array([[[0.25, 0.5, 0.75]]], np.float16)
    at = [
        foreground_mask(probabilities, ThresholdOptions(threshold=t), "binary").tolist()[0]
        for t in (0.0, 0.5, 1.0)
    ]
    assert at == [[1, 1, 1], [0, 0, 1], [0, 0, 0]]


def test_threshold_min_size_and_holes():
    mask = picture("1....", "..111", "..1.1", "..111")
    probabilities = mask[None].astype(np.float32)
    options = ThresholdOptions(min_size=2, fill_holes=True)
    expected = picture(".....", "..111", "..111", "..111")
    np.testing.assert_array_equal(foreground_mask(probabilities, options, "binary"), expected)


def test_argmax_equals_numpy_and_ignores_nan():
    probabilities = np.random.default_rng(0).random((5, 30, 31)).astype(np.float16)
    np.testing.assert_array_equal(likeliest_class(probabilities), probabilities.argmax(0))
    probabilities[2, 4, 5] = np.nan
    assert likeliest_class(probabilities)[4, 5] == 0


def test_argmax_ties_go_to_the_first_class():
    assert likeliest_class(np.full((3, 2, 2), 1 / 3, np.float32)).max() == 0


def test_argmax_leaves_the_doubtful_out():
    probabilities = np.array([[[0.1, 0.3]], [[0.5, 0.1]], [[0.4, 0.6]]], np.float32)
    doubtful = argmax(probabilities, ArgmaxOptions(min_probability=0.55), "classes")
    assert doubtful.tolist() == [[0, 2]]


def test_components_connectivity():
    probabilities = picture("11..", "11..", "..11", "..11")[None].astype(np.float32)
    apart = components(probabilities, ComponentsOptions(min_size=0), "binary")
    together = components(probabilities, ComponentsOptions(min_size=0, diagonal=True), "binary")
    assert (apart.max(), together.max()) == (2, 1)


@pytest.mark.parametrize(("min_size", "left"), [(0, 2), (3, 2), (4, 1), (5, 0)])
def test_min_size_keeps_objects_of_exactly_that_size(min_size, left):
    probabilities = picture("111..", ".....", "1111.")[None].astype(np.float32)
    labels = components(probabilities, ComponentsOptions(min_size=min_size), "binary")
    assert len(np.unique(labels[labels > 0])) == left


def test_a_ring_counts_with_its_hole():
    ring = picture("111", "1.1", "111")[None].astype(np.float32)
    assert components(ring, ComponentsOptions(min_size=9), "binary").sum() == 9
    empty = components(ring, ComponentsOptions(min_size=9, fill_holes=False), "binary")
    assert empty.sum() == 0


def test_touching_classes_are_different_objects():
    classes = picture("1122", "1122", "1.11")
    probabilities = np.eye(3, dtype=np.float32)[classes].transpose(2, 0, 1)
    labels = components(probabilities, ComponentsOptions(min_size=0), "classes")
    assert len(np.unique(labels[labels > 0])) == 3
    for label in (1, 2, 3):
        assert len(np.unique(classes[labels == label])) == 1


def test_holes_belong_to_the_object_around_them_and_gaps_to_none():
    labels = picture(
        "11111222",
        "1.1.1222",  # a hole of 1, and another
        "11111222",
        "11..2222",  # between 1 and 2: a gap
        "11122222",
        ".11....2",  # open to the border
    )
    filled = fill_label_holes(labels)
    expected = labels.copy()
    expected[1, 1] = expected[1, 3] = 1
    np.testing.assert_array_equal(filled, expected)


def test_holes_in_3d_need_a_lid():
    block = np.ones((3, 3, 3), int)
    block[1, 1, 1] = 0
    assert fill_label_holes(block).all()
    block[0, 1, 1] = 0
    np.testing.assert_array_equal(fill_label_holes(block), block)


def test_a_single_plane_is_filled_like_2d():
    plane = picture("111", "1.1", "111")[None]
    assert fill_label_holes(plane).all()


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)))
def test_filling_a_mask_agrees_with_scipy(mask):
    shape = [n for n in mask.shape if n > 1]
    if len(shape) != mask.ndim:
        mask = np.pad(mask, 1)
    filled = fill_label_holes(mask.astype(np.int32)) > 0
    np.testing.assert_array_equal(filled, ndimage.binary_fill_holes(mask))


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.int32, np.uint16, np.int64]),
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=7),
        elements=st.integers(0, 40),
    )
)
def test_scan_order_is_dense_and_a_bijection(labels):
    dense, count = scan_order(labels)
    seen = list(dict.fromkeys(labels[labels > 0].ravel().tolist()))
    assert count == len(seen)
    for new, old in enumerate(seen, start=1):
        np.testing.assert_array_equal(dense == new, labels == old)
    np.testing.assert_array_equal(dense == 0, labels == 0)
