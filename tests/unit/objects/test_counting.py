"""Counting in parts, so that the window lives meanwhile, gives what counting at once gives."""

import numpy as np
import pytest

from unet_studio.objects import cleaning
from unet_studio.objects.cleaning import drop_small, largest_piece, pixels_of
from unet_studio.objects.watershed import WatershedOptions, _drop_faint


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (31, 57), (7, 8, 9)])
def test_parts_give_the_same(monkeypatch, shape):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 40, shape).astype(np.int32)
    foreground = rng.random(shape).astype(np.float16)
    options = WatershedOptions(threshold=0, min_confidence=0.5)

    def results():
        return (
            pixels_of(labels),
            drop_small(labels, 40),
            largest_piece(labels),
            _drop_faint(labels, foreground, options),
        )

    whole = results()
    monkeypatch.setattr(cleaning, "_COUNTED_AT_ONCE", 13)
    for one, other in zip(whole, results(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole[0], np.bincount(labels.ravel(), minlength=1))


def test_sums_are_rounded_as_in_one_go(monkeypatch):
    """Objects at the very limit stay or go alike, however much is counted at a time."""
    monkeypatch.setattr(cleaning, "_COUNTED_AT_ONCE", 11)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.int32([0, 1, 2]), 1024)).reshape(48, 64)
    foreground = rng.random(labels.shape).astype(np.float32)
    sums = np.bincount(labels.ravel(), foreground.ravel().astype(np.float64))
    for number in (1, 2):
        mean = sums[number] / 1024  # exactly
        kept = []
        for confidence in (mean, np.nextafter(mean, 1)):
            options = WatershedOptions(threshold=0, min_confidence=confidence)
            kept.append(bool((_drop_faint(labels, foreground, options) == number).any()))
        assert kept == [True, False]
