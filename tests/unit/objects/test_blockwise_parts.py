"""Pieces beyond the limit are made in parts, and a warning says so."""

from __future__ import annotations

import numpy as np

from support.blockwise import by_blocks, probabilities_of, whole
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.oversized import _matches
from unet_studio.recipe import ObjectsMethod


def carpet(shape=(96, 96)):
    """Touching square objects, one piece of foreground altogether."""
    y, x = np.indices(shape)
    return 1 + y // 12 * 8 + x // 12


def test_a_piece_beyond_the_limit_is_made_in_parts_with_a_warning():
    objects = carpet()
    probabilities = probabilities_of(objects, "objects")
    method = ObjectsMethod(method="watershed")
    labels, result = by_blocks(probabilities, method, "objects", (32, 32), limit=48 * 48)
    (warning,) = result.warnings
    assert "64 object(s) were made in parts" in warning
    assert "limit" in warning
    assert result.count == 64
    np.testing.assert_array_equal(result.sizes, np.bincount(labels.ravel())[1:])
    # Seams run through the objects; each is found again nearly as it was.
    for number in range(1, 65):
        ids, counts = np.unique(labels[objects == number], return_counts=True)
        assert counts.max() >= 0.8 * 144, (number, ids, counts)
    exact, plain = by_blocks(probabilities, method, "objects", (32, 32))
    assert not plain.warnings
    np.testing.assert_array_equal(exact, whole(probabilities, method, "objects"))


def test_only_pieces_beyond_the_limit_are_made_in_parts():
    objects = np.zeros((96, 160), int)
    objects[:, :96] = carpet()
    objects[20:30, 102:112] = 100
    objects[40:50, 115:120] = 101
    objects[60:75, 120:150] = 102
    probabilities = probabilities_of(objects, "objects")
    method = ObjectsMethod(method="watershed")
    labels, result = by_blocks(probabilities, method, "objects", (32, 32), limit=60 * 60)
    assert "1 connected area(s)" in result.warnings[0]
    expected = whole(probabilities, method, "objects")
    for number in (100, 101, 102):
        theirs, ours = expected[objects == number], labels[objects == number]
        np.testing.assert_array_equal(scan_order(ours)[0], scan_order(theirs)[0])
    assert result.count == expected.max()


def test_halves_are_matched_with_whom_they_share_most():
    mine = np.array([5, 5, 5, 6, 6, 6, 6, 7, 0, 8, 8])
    theirs = np.array([1, 11, 11, 11, 12, 12, 12, 12, 12, 0, 2])
    # 5 has more of 11 than of anything, and 11 of 5; 7 has lost 12 to 6; 1 and 2 are whole.
    assert sorted(_matches(mine, theirs, 10).tolist()) == [[5, 11], [6, 12]]


def test_a_mask_beyond_the_limit_is_the_same_but_for_large_holes():
    objects = np.ones((96, 96), int)
    objects[5:8, 5:8] = objects[30:34, 30:34] = 0
    method = ObjectsMethod(method="threshold", options={"fill_holes": True})
    labels, result = by_blocks(
        probabilities_of(objects, "binary"), method, "binary", (32, 32), limit=2000
    )
    assert "holes" in result.warnings[0]
    assert (result.count, labels.min()) == (1, 1)
