"""Large lazy images: what a refinement reads of them, and how much it holds."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import dask.array as da
import numpy as np
import pytest

from unet_studio.images.kept_blocks import KeptBlocks, keep_blocks
from unet_studio.images.volume import as_volume
from unet_studio.training import first_guess as guessing
from unet_studio.training import surroundings
from unet_studio.training.annotations import annotate
from unet_studio.training.exercises import Exercise

EDGE = 20_000
CORNERS = ((300, 300), (300, 19_500), (19_500, 300), (10_000, 10_000))


class Disc:
    """A lazy plane with bright discs; counts the pixels that are read."""

    shape, dtype, chunks = (EDGE, EDGE), np.dtype(np.uint8), (500, 500)

    def __init__(self):
        self.read = 0

    def __getitem__(self, key):
        rows, columns = (np.arange(s.start, s.stop) for s in key)
        self.read += len(rows) * len(columns)
        block = np.zeros((len(rows), len(columns)), np.uint8)
        for row, column in CORNERS:
            block[np.hypot(rows[:, None] - row, columns - column) < 20] = 200
        return block


def painted():
    """A short stroke on each disc, one beside it."""
    empty = replace(annotate(np.zeros((1, 1), np.uint8), "YX"), shape=(EDGE, EDGE))
    places = [(r + d, c + i) for r, c in CORNERS for d in (0, 60) for i in range(10)]
    values = [2 if d == 0 else 1 for _ in CORNERS for d in (0, 60) for i in range(10)]
    order = sorted(range(len(places)), key=places.__getitem__)
    return empty.with_pixels(np.array(places)[order], np.array(values)[order])


class Plain:
    """Takes intensities as they are."""

    channels = (0,)

    def mix(self, block):
        return block

    expand = mix

    def apply(self, block):
        return block.astype(np.float32) / 255


def test_strokes_far_apart_are_guessed_at_one_by_one():
    source = Disc()
    exercise = Exercise(keep_blocks(as_volume(source, "YX")), painted(), Plain(), Plain(), 2)
    tracemalloc.start()
    (guess,) = guessing.first_guess([exercise], 2).guesses
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert guess is not None, "strokes far apart were not guessed at"
    for row, column in CORNERS:
        block = guess.block((), (row - 50, column - 50), (row + 51, column + 51))
        assert block[1, 50, 50] > 0.5
        assert block[0, 2, 2] > 0.5
    assert source.read < EDGE**2 / 50
    assert peak < 300e6


def test_what_is_guessed_at_in_all_is_bounded(monkeypatch):
    monkeypatch.setattr(surroundings, "_MOST", 200_000)
    exercise = Exercise(as_volume(Disc(), "YX"), painted(), Plain(), Plain(), 2)
    (guess,) = guessing.first_guess([exercise], 2).guesses
    assert sum(p.shape[1] * p.shape[2] for parts in guess.planes.values() for _, p in parts) <= 2e5


@pytest.mark.parametrize("make", [lambda a: da.from_array(a, chunks=(1, 32, 40)), Disc])
def test_kept_blocks_are_the_array(make):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (3, 100, 90), np.uint8)
    if make is Disc:
        source, array = Disc(), Disc()
        keys = [(slice(280, 320), slice(19_490, 20_000))]
    else:
        source = make(array)
        keys = [(slice(None),) * 3, (1, slice(5, 70), slice(33, 90)), (slice(0, 2), 7, slice(9))]
    kept = KeptBlocks(source, most=3000)
    for key in keys * 2:
        assert np.array_equal(kept[key], array[key])
    assert kept._bytes <= max(3000, 500 * 500)


def test_a_block_is_read_once():
    source = Disc()
    kept = KeptBlocks(source)
    for _ in range(3):
        kept[slice(0, 400), slice(100, 300)]
    assert source.read == 500 * 500
