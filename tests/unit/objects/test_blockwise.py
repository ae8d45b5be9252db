"""Block by block there are the same labels as at once: to the pixel, and to the id."""

from __future__ import annotations

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.storage import MemoryStore

from support.blockwise import (
    SETTINGS,
    assert_same,
    by_blocks,
    noise,
    packed_objects,
    probabilities_of,
    whole,
)
from unet_studio.events import drain
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.cleaning import scan_order
from unet_studio.recipe import ObjectsMethod

some_settings = pytest.mark.parametrize("setting", SETTINGS)


def scene(*rows):
    """Objects drawn with letters; each is four times as large."""
    small = np.array([[0 if c == "." else ord(c) - 64 for c in row] for row in rows])
    return np.kron(small, np.ones((4, 4), int))


SCENES = {
    "nothing": scene("......", "......"),
    "everything": scene("AAAAAA", "AAAAAA", "AAAAAA"),
    "in the corners": scene("A...B", ".....", ".....", "C...D"),
    "on seams": scene("......", "..AA..", "..AA..", ".....B", "C.....", "C..DD."),
    "touching": scene("AABB..", "AABB..", "CCDD..", "CCDDEE", "....EE"),
    "touching at corners": scene("AA..AA", "AA..AA", "..BB..", "..BB..", "AA..AA"),
    "rings": scene(
        "AAAAAAAA.", "A......A.", "A.BBBB.AC", "A.B..B.AC", "A.B.DB.A.", "A.BBBB.A.", "AAAAAAAA."
    ),
    "worms": scene(
        "AAAAAAAAAA",
        ".........A",
        "BBBBBBBB.A",
        "B......B.A",
        "B.CCCC.B.A",
        "B....C...A",
        "BBBBBBBBBA",
    ),
    "combs": scene("A.A.A.A.B", "A.A.A.A.B", "AAAAAAA.B", "........B", "BBBBBBBBB"),
    "same box": scene("AAAAB", "A...B", "A.A.B", "A...B", "ABBBB"),
    "diamond": scene(".A.", "A.A", ".A."),
}


@pytest.mark.parametrize("picture", SCENES)
@some_settings
def test_drawn_objects(setting, picture):
    objects = SCENES[picture]
    for block in ((8, 8), (7, 11), (5, 64), (16, 3), (64, 64)):
        assert_same(probabilities_of(objects, SETTINGS[setting][1]), setting, block)


@pytest.mark.parametrize(("shape", "block"), [((61, 90), (16, 16)), ((80, 47), (9, 30))])
@some_settings
def test_clumps(setting, shape, block):
    for seed in range(3):
        assert_same(noise(shape, SETTINGS[setting][1], seed), setting, block)


@pytest.mark.parametrize(
    ("shape", "block"),
    [((12, 30, 33), (5, 8, 16)), ((9, 17, 21), (16, 4, 4)), ((1, 30, 31), (1, 8, 9))],
)
@some_settings
def test_volumes(setting, shape, block):
    assert_same(noise(shape, SETTINGS[setting][1], 5), setting, block)


@pytest.mark.parametrize("diagonal", [False, True])
def test_P06_two_voxels_that_touch_across_any_seam(diagonal):
    """Every direction to a neighbouring block, in 2D and in 3D."""
    setting = "components, diagonal" if diagonal else "components, open"
    for ndim in (2, 3):
        for step in np.ndindex(*[3] * ndim):
            probabilities = np.zeros((3, *[8] * ndim), np.float16)
            first = np.array([3 + (s != 2) for s in step])
            for at in (first, first + step - 1):
                probabilities[(0, *at)] = 1
            options = SETTINGS[setting][2] | {"min_size": 0}
            method = ObjectsMethod(method="components", options=options)
            labels, result = by_blocks(probabilities, method, "binary", [4] * ndim)
            np.testing.assert_array_equal(labels, whole(probabilities, method, "binary"))
            moves = sum(s != 1 for s in step)
            assert result.count == (1 if moves < 2 or diagonal else 2)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_picture_in_any_blocks(data):
    setting = data.draw(st.sampled_from(sorted(SETTINGS)))
    shape = data.draw(st.lists(st.integers(1, 26), min_size=2, max_size=3))
    block = [data.draw(st.integers(1, 30)) for _ in shape]
    seed = data.draw(st.integers(0, 2**31))
    # Blocks of one pixel in a volume would be thousands of tiny steps.
    block = [max(b, n // 6 + 1) for b, n in zip(block, shape, strict=True)]
    probabilities = noise(shape, SETTINGS[setting][1], seed)
    if data.draw(st.booleans()):  # plateaus: ties everywhere
        probabilities = np.round(probabilities * 4) / np.float16(4)
    assert_same(probabilities, setting, block)


@pytest.mark.parametrize("block", [(20, 20), (70, 9)])
def test_ties_are_broken_alike(block):
    """Level summits: which is flooded first must not depend on what else is there."""
    for seed in range(4):
        probabilities = np.round(noise((70, 70), "objects", seed) * 4) / np.float16(4)
        assert_same(probabilities, "watershed, raw", block)


@pytest.mark.parametrize("spike", [0, 10_000])
def test_the_margin_reaches_to_the_last_pixel_of_the_blur(spike):
    """What the blur carries to a neighbour at the corner decides on a summit."""
    probabilities = np.zeros((3, 24, 24), np.float32)
    probabilities[0, 10, :10] = 1  # two summits, at 2 and at 9 ...
    probabilities[2, 10, [2, 9]] = 1
    probabilities[0, 11, 10] = 1  # ... unless this one is higher than the second
    probabilities[2, 15, 10] = spike  # four pixels, four standard deviations, from it
    options = {"min_size": 0, "min_confidence": 0, "split_depth": 0.02}
    method = ObjectsMethod(method="watershed", options=options)
    labels, result = by_blocks(probabilities, method, "objects", (11, 24))
    np.testing.assert_array_equal(labels, whole(probabilities, method, "objects"))
    assert result.count == (2 if spike else 3)


@pytest.mark.parametrize("block", [(32, 32), (25, 41), (90, 10)])
def test_packed_objects_are_put_together_exactly(block):
    objects = packed_objects()
    probabilities = probabilities_of(objects, "objects")
    assert_same(probabilities, "watershed", block)
    assert_same(probabilities, "watershed, raw", block)


@pytest.mark.parametrize("block", [(8, 8), (13, 6), (40, 40)])
def test_P06_labels_come_back_as_they_were_drawn(block):
    discs = np.zeros((40, 40), int)
    y, x = np.ogrid[:40, :40]
    for number, centre in enumerate([(8, 8), (7, 30), (16, 20), (30, 9), (31, 31)], 1):
        discs[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= 20] = number
    discs = scan_order(discs)[0]
    method = ObjectsMethod(method="watershed")
    labels, result = by_blocks(probabilities_of(discs, "objects"), method, "objects", block)
    np.testing.assert_array_equal(labels, discs)
    np.testing.assert_array_equal(result.sizes, np.bincount(discs.ravel())[1:])


def test_P07_numbers_do_not_depend_on_the_block():
    probabilities = noise((70, 70), "objects", 2)
    method = ObjectsMethod(method="watershed")
    results = [
        by_blocks(probabilities, method, "objects", b)[1] for b in ((70, 70), (20, 33), (9, 9))
    ]
    assert results[0].count > 5
    for other in results[1:]:
        assert other.count == results[0].count
        np.testing.assert_array_equal(other.sizes, results[0].sizes)
        np.testing.assert_array_equal(other.centroids, results[0].centroids)


def test_zarr_in_and_out():
    probabilities = noise((100, 130), "objects", 4)
    source = zarr.create_array(MemoryStore(), data=probabilities, chunks=(3, 16, 16))
    output = zarr.create_array(MemoryStore(), shape=(100, 130), chunks=(16, 16), dtype="uint16")
    method = ObjectsMethod(method="watershed")
    drain(label_blocks(source, output, method, "objects", block=(32, 48)))
    np.testing.assert_array_equal(output[:], whole(probabilities, method, "objects"))


def test_offset_is_added_to_objects_only():
    probabilities = noise((40, 40), "binary", 1)
    method = ObjectsMethod(method="components")
    plain, first = by_blocks(probabilities, method, "binary", (16, 16))
    later, second = by_blocks(probabilities, method, "binary", (16, 16), offset=1000)
    np.testing.assert_array_equal(later, np.where(plain > 0, plain + 1000, 0))
    assert first.count == second.count
