"""The preparation of brain MRI: whole volumes in, and what the network says back on the slices."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.axes import Axes
from unet_studio.images.brain_mri import BrainMri

AXES = Axes("ZYX")


@pytest.fixture
def volume():
    """Three channels of a head on dark ground: (C, Z, Y, X), 7 slices of 90 × 70."""
    rng = np.random.default_rng(0)
    frame = rng.uniform(0, 5, (3, 7, 90, 70))
    rows, columns = np.indices((90, 70))
    head = ((rows - 40) / 30) ** 2 + ((columns - 36) / 22) ** 2 < 1
    frame[:, 1:6, head] += rng.uniform(60, 200, (3, 5, head.sum()))
    return frame.astype(np.float32)


def test_the_network_sees_standardised_squares(volume):
    prepared = BrainMri().prepare(volume, AXES)
    assert prepared.image.shape == (3, 7, 256, 256) == (3, *BrainMri().shape((7, 90, 70), AXES))
    assert prepared.image.dtype == np.float32
    seen = prepared.image[:, 1:6]
    np.testing.assert_allclose(seen.mean((1, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std((1, 2, 3)), 1, atol=1e-3)


def test_what_the_network_says_lies_where_it_was_seen(volume):
    """Brightness of the prepared slices, brought back, is that of the image."""
    prepared = BrainMri().prepare(volume, AXES)
    low = prepared.image[:, 1:6].min()
    back = prepared.restore(prepared.image - low)
    assert back.shape == volume.shape
    head = volume[0, 3] > 30
    assert np.corrcoef(back[0, 3][head], volume[0, 3][head])[0, 1] > 0.6
    shifted = np.roll(volume[0, 3], 2, 1)
    assert np.corrcoef(back[0, 3][head], shifted[head])[0, 1] < 0.3
    assert not back[:, 3, :8].any(), "nothing was shown beyond the head's box"
    assert prepared.unseen[3, :8].all()
    assert not prepared.unseen[3][head].any()


def test_an_outline_comes_back_to_the_pixel(volume):
    prepared = BrainMri().prepare(volume, AXES)
    square = np.zeros((1, 7, 256, 256), np.float32)
    square[:, 2, 128:] = 1  # the lower half of what was shown
    back = prepared.restore(square)[0]
    assert not back[[0, 1, 3, 4, 5, 6]].any()
    rows = np.flatnonzero((back[2] > 0.5).any(1))
    shown = np.flatnonzero(~prepared.unseen[2].all(1))
    middle = (shown[0] + shown[-1] + 1) / 2
    assert abs(rows[0] - middle) <= 1
    assert rows[-1] == shown[-1]


def test_brightness_and_position_of_the_head_do_not_matter(volume):
    wider = np.zeros((3, 7, 120, 100), np.float32)
    wider[:, :, 17:107, 11:81] = volume
    a = BrainMri().prepare(volume, AXES)
    b = BrainMri().prepare(3 * wider, AXES)
    np.testing.assert_allclose(a.image, b.image, atol=1e-3)
    np.testing.assert_allclose(
        a.restore(a.image)[:, :, 5:85, 5:65], b.restore(b.image)[:, :, 22:102, 16:76], atol=1e-2
    )


def test_first_and_last_slice_do_not_change_the_others(volume):
    spoilt = volume.copy()
    spoilt[:, 0], spoilt[:, -1] = 1e4, 3e4
    a, b = (BrainMri().prepare(v, AXES).image[:, 1:-1] for v in (volume, spoilt))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("deep", [False, True])
def test_a_single_slice_is_its_own_measure(volume, deep):
    frame = volume[:, 3:4] if deep else volume[:, 3]
    prepared = BrainMri().prepare(frame, AXES if deep else Axes("YX"))
    np.testing.assert_allclose(prepared.image.reshape(3, -1).mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(prepared.image.reshape(3, -1).std(1), 1, atol=1e-3)
    assert prepared.restore(prepared.image[:1]).shape == (1, *frame.shape[1:])


@pytest.mark.parametrize("value", [0.0, -7.0])
def test_an_empty_volume_is_said_and_gives_nothing(value):
    frame = np.full((3, 5, 40, 30), value, np.float32)
    prepared = BrainMri().prepare(frame, AXES)
    assert any("nothing was found" in text for text in prepared.warnings)
    assert prepared.unseen.all()
    assert not prepared.restore(np.ones((1, 5, 256, 256), np.float32)).any()


def test_a_constant_channel_is_said(volume):
    volume[1] = 0
    texts = BrainMri().prepare(volume, AXES).warnings
    assert any("Channel 2 of 3" in text for text in texts)


@pytest.mark.parametrize("size", [100, 0, "256"])
def test_a_wrong_size_is_refused(size):
    with pytest.raises(ValueError, match="multiple of 16"):
        BrainMri(size=size)
