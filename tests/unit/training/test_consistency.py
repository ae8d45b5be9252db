"""Whether strokes of different classes look different at all."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.training.consistency import chance_of_telling_apart


def painted(rng, regions, apart, share=0.5, features=60):
    """Strokes of ten pixels, those of one class all a little brighter."""
    classes = (np.arange(regions) < share * regions).astype(np.int64)
    per_stroke = rng.normal(0, 1, (regions, features)) + apart * classes[:, None]
    pixels = per_stroke.repeat(10, axis=0) + rng.normal(0, 0.3, (10 * regions, features))
    index = np.arange(regions).repeat(10)
    return pixels.astype(np.float32), classes[index], index


def test_what_looks_different_is_told_apart():
    chance = chance_of_telling_apart(*painted(np.random.default_rng(0), 14, 1.0), 2)
    assert chance < 0.01


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_strokes_of_random_classes_are_not(share):
    """Also where one class was painted more often: answering it always proves nothing."""
    chances = [
        chance_of_telling_apart(*painted(np.random.default_rng(seed), 30, 0.0, share), 2)
        for seed in range(20)
    ]
    assert min(chances) > 0.01
    assert np.mean(np.array(chances) < 0.3) < 0.5


def test_of_three_classes_each_counts():
    rng = np.random.default_rng(3)
    pixels, _, index = painted(rng, 21, 0.0)
    classes = index % 3
    assert chance_of_telling_apart(pixels, classes, index, 3) > 0.01
    pixels[:, :20] += 2 * (classes == 1)[:, None]
    pixels[:, 20:40] += 2 * (classes == 2)[:, None]
    assert chance_of_telling_apart(pixels, classes, index, 3) < 0.01


def test_too_few_strokes_prove_nothing():
    assert chance_of_telling_apart(*painted(np.random.default_rng(0), 3, 5.0), 2) > 0.1
    assert chance_of_telling_apart(*painted(np.random.default_rng(0), 2, 5.0), 2) == 1.0
