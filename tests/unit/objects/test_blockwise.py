"""Block by block there are the same labels as at once: to the pixel, and to the id."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from zarr.storage import MemoryStore

from unet_studio.errors import Cancelled, ImageError, OutputError, RecipeError
from unet_studio.events import drain
from unet_studio.objects import methods
from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.methods import METHODS, parse_options, suitable_methods
from unet_studio.objects.oversized import _matches
from unet_studio.recipe import ObjectsMethod
from unet_studio.training.targets import object_targets

SETTINGS = {
    "watershed": ("watershed", "objects", {}),
    "watershed, raw": (
        "watershed",
        "objects",
        {"smoothing": 0, "split_depth": 0.02, "min_size": 2, "min_confidence": 0},
    ),
    "watershed, boundaries": (
        "watershed",
        "objects",
        {"smoothing": 2.3, "boundary_weight": 1, "min_confidence": 0.7, "fill_holes": False},
    ),
    "components": ("components", "binary", {}),
    "components, diagonal": ("components", "binary", {"diagonal": True, "min_size": 0}),
    "components, open": ("components", "objects", {"fill_holes": False, "min_size": 4}),
    "components, classes": ("components", "classes", {}),
    "components, classes, diagonal": (
        "components",
        "classes",
        {"diagonal": True, "min_size": 0},
    ),
    "threshold": ("threshold", "binary", {}),
    "threshold, cleaned": ("threshold", "objects", {"min_size": 12, "fill_holes": True}),
    "argmax": ("argmax", "classes", {"min_probability": 0.4}),
}
some_settings = pytest.mark.parametrize("setting", SETTINGS)


def whole(probabilities, method, representation):
    """What run_objects makes of a single frame."""
    chosen = METHODS.load(method.method)
    labels = chosen.function(probabilities, parse_options(method), representation)
    return scan_order(labels)[0] if chosen.makes_objects else labels


def by_blocks(probabilities, method, representation, block, **more):
    output = np.zeros(probabilities.shape[1:], np.uint32)
    result = drain(
        label_blocks(probabilities, output, method, representation, block=block, **more)
    )
    return output, result


def assert_same(probabilities, setting, block):
    name, representation, options = SETTINGS[setting]
    method = ObjectsMethod(method=name, options=options)
    expected = whole(probabilities, method, representation)
    labels, result = by_blocks(probabilities, method, representation, block)
    np.testing.assert_array_equal(labels, expected)
    assert result.count == expected.max(initial=0)
    assert not result.warnings
    if METHODS.load(name).makes_objects:
        np.testing.assert_array_equal(result.sizes, np.bincount(expected.ravel())[1:])
        centres = ndimage.center_of_mass(expected > 0, expected, range(1, result.count + 1))
        np.testing.assert_allclose(result.centroids, np.reshape(centres, (-1, expected.ndim)))


def probabilities_of(objects, representation):
    """What a perfect network says about labelled objects."""
    if representation == "objects":
        return object_targets(objects).astype(np.float16)
    if representation == "binary":
        return (objects > 0)[None].astype(np.float16)
    kinds = np.where(objects > 0, 1 + objects % 2, 0)  # neighbours of another class
    return np.stack([kinds == k for k in range(3)]).astype(np.float16)


def noise(shape, representation, seed):
    """Clumps of all sizes, with depth and holes."""
    random = np.random.default_rng(seed)
    channels = []
    for _ in range(1 if representation == "binary" else 3):
        field = ndimage.gaussian_filter(random.standard_normal(shape), random.uniform(0.8, 3))
        field -= np.quantile(field, 0.02)
        channels.append(np.clip(field / max(np.quantile(field, 0.98), 1e-3), 0, 1))
    return np.stack(channels).astype(np.float16)


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


def packed_objects(shape=(90, 100), count=60, seed=0):
    """Cells that fill the picture, as a Voronoi diagram, some removed."""
    random = np.random.default_rng(seed)
    seeds = np.zeros(shape, int)
    seeds[tuple(random.integers(0, n, count) for n in shape)] = 1
    seeds, found = ndimage.label(seeds)
    nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)[1]
    objects = seeds[tuple(nearest)]
    return np.where(np.isin(objects, random.permutation(found)[: found // 3]), 0, objects)


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


# --- beyond the limit ---------------------------------------------------------------


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


# --- size ---------------------------------------------------------------------------


def peak_memory(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_image():
    tile = probabilities_of(packed_objects((128, 128), 40), "objects")
    tile[:, :, :2] = tile[:, :2] = 0  # pieces end at the tile's edge
    method = ObjectsMethod(method="watershed")

    def peak(repeat):
        shape = (128 * repeat, 128 * repeat)
        source = zarr.create_array(
            MemoryStore(), shape=(3, *shape), chunks=(3, 128, 128), dtype="float16"
        )
        for index in np.ndindex(repeat, repeat):
            y, x = (slice(128 * i, 128 * i + 128) for i in index)
            source[:, y, x] = tile
        output = zarr.create_array(MemoryStore(), shape=shape, chunks=(128, 128), dtype="uint32")
        steps = label_blocks(source, output, method, "objects", block=(128, 128))
        return peak_memory(lambda: drain(steps))

    small, large = peak(2), peak(6)  # nine times the pixels
    assert large < 1.5 * small
    assert large < 128 * 128 * 6 * 9 * 4


class Mostly:
    """Probabilities that are 0 but for some rectangles: never in memory as a whole."""

    def __init__(self, shape, rectangles):
        self.shape, self.rectangles = (1, *shape), rectangles

    def __getitem__(self, key):
        region = key[1:]
        found = np.broadcast_to(np.float32(0), (1, *[r.stop - r.start for r in region]))
        for box in self.rectangles:
            cut = [
                slice(max(b[0], r.start) - r.start, min(b[1], r.stop) - r.start)
                for b, r in zip(box, region, strict=True)
            ]
            if all(c.start < c.stop for c in cut):
                found = found.copy()
                found[(0, *cut)] = 1
        return found


def test_L03_more_pixels_than_32_bits_can_count():
    side = 4096 * 12
    assert side * side > 2**31
    rectangles = [
        ((40, 50), (49_000, 49_010)),
        ((4090, 4100), (4090, 4100)),  # on the corner of four blocks
        ((49_000, 49_010), (5, 10)),
        ((49_000, 49_010), (20, 23)),
        ((49_100, 49_152), (49_100, 49_152)),
    ]
    store = MemoryStore()
    output = zarr.create_array(store, shape=(side, side), chunks=(512, 512), dtype="uint32")
    result = drain(
        label_blocks(
            Mostly((side, side), rectangles),
            output,
            ObjectsMethod(method="components"),
            "binary",
            block=(4096, 4096),
            offset=7,
        )
    )
    assert result.sizes.tolist() == [100, 100, 50, 30, 52 * 52]
    # By row, then by column, as the rectangles are listed.
    for number, (y, x) in enumerate(rectangles):
        assert result.centroids[number].tolist() == [(sum(y) - 1) / 2, (sum(x) - 1) / 2]
        assert (output[slice(*y), slice(*x)] == number + 8).all()


def test_L03_more_than_a_million_objects():
    side = 3100  # squares of 2 pixels, one in 3: blocks of 1000 cut some of them
    row = np.arange(side) % 3 < 2
    squares = row[:, None] & row[None, :]
    output = np.zeros((side, side), np.uint32)
    method = ObjectsMethod(method="components", options={"min_size": 0, "fill_holes": False})
    result = drain(
        label_blocks(
            squares[None].astype(np.float32), output, method, "binary", block=(1000, 1000)
        )
    )
    expected, count = ndimage.label(squares)
    assert count > 1_000_000
    assert len(result.sizes) == count
    np.testing.assert_array_equal(output, expected)


# --- progress, and what can go wrong ------------------------------------------------


def test_progress_counts_up_to_the_end():
    probabilities = noise((50, 50), "objects", 3)
    for setting in ("watershed", "argmax", "threshold, cleaned"):
        name, representation, options = SETTINGS[setting]
        method = ObjectsMethod(method=name, options=options)
        output = np.zeros((50, 50), np.uint8 if name != "watershed" else np.uint16)
        steps = list(label_blocks(probabilities, output, method, representation, block=(20, 20)))
        done = [s[0] for s in steps]
        assert done == sorted(done)
        assert steps[-1][0] == steps[-1][1]


def test_check_stops_it():
    calls = []

    def check():
        calls.append(1)
        if len(calls) > 4:
            raise Cancelled("stopped")

    probabilities = noise((50, 50), "objects", 3)
    with pytest.raises(Cancelled):
        by_blocks(
            probabilities, ObjectsMethod(method="watershed"), "objects", (20, 20), check=check
        )


def test_a_method_that_does_not_say_where_it_looks_names_those_that_do(monkeypatch):
    silent = dataclasses.replace(METHODS.load("watershed"), support=None)
    monkeypatch.setattr(
        methods.Registry,
        "load",
        lambda self, name, load=methods.Registry.load: (
            silent if name == "watershed" else load(self, name)
        ),
    )
    with pytest.raises(RecipeError, match=r"'watershed' .* block by block.* threshold"):
        label_blocks(
            np.zeros((3, 8, 8)),
            np.zeros((8, 8), np.uint32),
            ObjectsMethod(method="watershed"),
            "objects",
            block=(4, 4),
        )


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_of_ours_runs_block_by_block(name):
    chosen = METHODS.load(name)
    assert chosen.support is not None
    for representation in chosen.representations:
        probabilities = noise((40, 40), "objects", 6)
        method = ObjectsMethod(method=name)
        labels, _ = by_blocks(probabilities, method, representation, (16, 12))
        np.testing.assert_array_equal(labels, whole(probabilities, method, representation))


@pytest.mark.parametrize(
    ("shape", "dtype", "block", "name", "message"),
    [
        ((8, 9), "uint32", (4, 4), "watershed", r"\(8, 9\)"),
        ((8, 8), "uint32", (4, 4, 4), "watershed", "one length"),
        ((8, 8), "uint32", (4, 0), "watershed", "one length"),
        ((8, 8), "float32", (4, 4), "watershed", "whole numbers"),
        ((8, 8), "uint32", (4, 4), "argmax", "watershed"),
    ],
)
def test_what_does_not_fit_is_said_before_the_start(shape, dtype, block, name, message):
    with pytest.raises(RecipeError, match=message):
        label_blocks(
            np.zeros((3, 8, 8)),
            np.zeros(shape, dtype),
            ObjectsMethod(method=name),
            "objects",
            block=block,
        )
    assert "watershed" in suitable_methods("objects")


def dots(count):
    probabilities = np.zeros((1, 2, 2 * count), np.float16)
    probabilities[0, 0, ::2] = 1
    return probabilities


@pytest.mark.parametrize(("offset", "count"), [(0, 300), (200, 100)])
def test_too_many_objects_for_the_label_array(offset, count):
    method = ObjectsMethod(method="components", options={"min_size": 0})
    output = np.zeros((2, 2 * count), np.uint8)
    steps = label_blocks(dots(count), output, method, "binary", block=(2, 50), offset=offset)
    with pytest.raises(OutputError, match=r"uint32"):
        drain(steps)


def test_a_label_array_that_is_not_empty_is_refused():
    method = ObjectsMethod(method="components", options={"min_size": 0})
    output = np.ones((2, 20), np.uint32)
    with pytest.raises(OutputError, match="labels already"):
        drain(label_blocks(dots(10), output, method, "binary", block=(2, 5)))


class Broken(np.ndarray):
    def __getitem__(self, key):
        raise OSError("bad chunk")

    def __setitem__(self, key, value):
        raise OSError("disk full")


@pytest.mark.parametrize("part", ["in", "read back", "out", "memory"])
def test_failures_say_where_and_what_to_do(part, monkeypatch):
    probabilities, output = dots(10), np.zeros((2, 20), np.uint32)
    method = ObjectsMethod(method="components", options={"min_size": 0})
    expected, message = OutputError, "could not be read back: bad chunk"
    if part == "in":
        probabilities = probabilities.view(Broken)
        expected, message = ImageError, "Y 0:2, X 0:5: bad chunk"
    elif part == "read back":
        output = output.view(Broken)
    elif part == "out":
        output = output.view(type("Full", (Broken,), {"__getitem__": np.ndarray.__getitem__}))
        message = "could not be written at Y 0:2, X 0:5: disk full"
    else:
        monkeypatch.setattr(
            "unet_studio.objects.pieces.connected",
            lambda *_: (_ for _ in ()).throw(MemoryError()),
        )
        expected, message = RecipeError, "not enough memory"
    with pytest.raises(expected, match=message):
        drain(label_blocks(probabilities, output, method, "binary", block=(2, 5)))
