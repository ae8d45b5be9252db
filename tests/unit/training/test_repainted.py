"""A stroke costs what it covers, and reading it gives what reading everything would give."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.errors import AnnotationError
from unet_studio.training.annotations import annotate, nothing_on
from unet_studio.training.corrections import corrections
from unet_studio.training.repainted import Tiles, repainted


def assert_same(one, other):
    assert (one.shape, one.axes, one.mode) == (other.shape, other.axes, other.mode)
    np.testing.assert_array_equal(one.places, other.places)
    np.testing.assert_array_equal(one.values, other.values)
    assert one.places.dtype == other.places.dtype
    assert not one.values.flags.writeable


class Reads:
    """Labels that note which parts of them are read."""

    def __init__(self, labels):
        self.labels, self.parts = labels, []
        self.shape, self.ndim = labels.shape, labels.ndim

    def __getitem__(self, region):
        self.parts.append(region)
        return self.labels[region]


@pytest.mark.parametrize(("axes", "shape"), [("YX", (300, 5000)), ("TZYX", (2, 3, 70, 2100))])
def test_what_is_painted_and_erased_bit_by_bit_is_what_is_there(axes, shape):
    rng = np.random.default_rng(3)
    labels, tiles = np.zeros(shape, np.uint16), Tiles(shape, axes)
    known = nothing_on(shape, axes, mode="objects")
    for _ in range(40):
        marks = tiles.marks()
        for _ in range(rng.integers(1, 4)):
            start = [int(rng.integers(0, n)) for n in shape]
            stop = [
                min(n, s + int(rng.integers(1, 60))) for n, s in zip(shape, start, strict=True)
            ]
            labels[tuple(map(slice, start, stop))] = rng.integers(0, 4)
            tiles.mark(marks, start, stop)
        known = repainted(known, labels, tiles, marks)
        assert_same(known, annotate(labels, axes, mode="objects"))


def test_corrections_are_read_again_as_they_are_read_at_once():
    rng = np.random.default_rng(4)
    predicted = rng.integers(0, 3, (200, 4200)).astype(np.uint8)
    predicted[100:, :50] = 255
    labels, tiles = predicted.copy(), Tiles(predicted.shape, "YX")
    known = nothing_on(labels.shape, "YX", mode="objects")
    for row, value in ((3, 0), (90, 255), (199, 2), (3, 1)):
        labels[row, 2000:2100] = value
        marks = tiles.marks()
        tiles.mark(marks, (row, 2000), (row + 1, 2100))
        known = repainted(known, labels, tiles, marks, predicted)
        assert_same(known, corrections(predicted, labels))
    labels[3] = predicted[3]
    known = repainted(known, labels, tiles, tiles.marks(every=True), predicted)
    assert_same(known, corrections(predicted, labels))
    with pytest.raises(AnnotationError, match="Correct a copy of the prediction"):
        repainted(known, labels, tiles, tiles.marks(), predicted[1:])


def test_only_the_tiles_of_a_stroke_are_read():
    shape = (2**20, 2**20)  # a terapixel: all of them are one byte
    labels = Reads(np.broadcast_to(np.uint8(0), shape))
    tiles = Tiles(shape, "YX")
    marks = np.zeros((2**15, 2**9), bool)
    assert tiles.marks().shape == marks.shape
    tiles.mark(marks, (600_000, 2**19 - 3), (600_050, 2**19 + 4))
    known = nothing_on(shape, "YX")
    assert repainted(known, labels, tiles, marks) is known
    rows, columns = (sorted({(p[i].start, p[i].stop) for p in labels.parts}) for i in (0, 1))
    assert rows[0][0] <= 600_000 < 600_050 <= rows[-1][1]
    assert columns[0][0] <= 2**19 - 3 < 2**19 + 4 <= columns[-1][1]
    assert len(labels.parts) == 4
    assert sum((r.stop - r.start) * (c.stop - c.start) for r, c in labels.parts) < 2**19


def test_what_is_not_marked_stays_as_it_was_known():
    labels, tiles = np.zeros((64, 4096), np.uint8), Tiles((64, 4096), "YX")
    labels[5, 5] = labels[40, 3000] = 1
    first = repainted(nothing_on(labels.shape, "YX"), labels, tiles, tiles.marks(every=True))
    assert len(first) == 2
    labels[:] = 2
    assert repainted(first, labels, tiles, tiles.marks()) is first
    marks = tiles.marks()
    tiles.mark(marks, (-5, -5), (1, 1))
    assert len(repainted(first, labels, tiles, marks)) == 32 * 2048 + 1
    labels[:] = 0
    assert len(repainted(first, labels, tiles, marks)) == 1


def test_labels_that_annotations_can_not_hold_are_refused():
    labels, tiles = np.zeros((4, 4), np.int32), Tiles((4, 4), "YX")
    labels[1, 1] = -1
    with pytest.raises(AnnotationError, match="negative"):
        repainted(nothing_on((4, 4), "YX"), labels, tiles, tiles.marks(every=True))
