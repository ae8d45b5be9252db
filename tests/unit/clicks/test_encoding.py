"""What the click network is shown: fixed, for training and use alike."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.clicks.encoding import disks, encode, scale_intensities, three_channels
from unet_studio.models.click_input import ClickInput


def test_a_disk_is_every_pixel_within_the_radius():
    found = disks([(10.3, 7.8), (0, 19.6), (-2, 3), (500, 500)], 20, 3.0)
    y, x = np.mgrid[:20, :20]
    expected = np.zeros((20, 20), bool)
    for cy, cx in [(10.3, 7.8), (0, 19.6), (-2, 3)]:
        expected |= np.hypot(y - cy, x - cx) <= 3.0
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert found[1, 3] == 1  # reaches in from outside


def test_the_joint_percentiles_become_0_and_1_and_the_rest_is_clamped():
    rng = np.random.default_rng(1)
    pixels = np.stack([rng.normal(100, 10, (64, 64)), rng.normal(150, 10, (64, 64))])
    pixels = pixels.astype(np.float32)
    pixels[0, 0, :3] = 1e6, -1e6, np.nan
    low, high = np.percentile(pixels[np.isfinite(pixels)].astype(float), (1, 99))
    found = scale_intensities(pixels, 1, 99)
    expected = np.clip((pixels - low) / (high - low), -0.5, 1.5)
    expected[0, 0, 2] = 0
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[0, 0, 0] == 1.5
    assert found[0, 0, 1] == -0.5


@pytest.mark.parametrize("value", [0, 7, -3.5, np.nan, np.inf])
def test_an_even_crop_is_0(value):
    assert not scale_intensities(np.full((1, 8, 8), value, np.float32)).any()


def test_any_number_of_channels_becomes_three():
    a, b, c, d = np.random.default_rng(0).random((4, 5, 5), np.float32)
    np.testing.assert_array_equal(three_channels(np.stack([a])), [a, a, a])
    np.testing.assert_allclose(three_channels(np.stack([a, b])), [a, b, (a + b) / 2])
    np.testing.assert_array_equal(three_channels(np.stack([a, b, c])), [a, b, c])
    np.testing.assert_array_equal(three_channels(np.stack([a, b, c, d])), [a, b, c])


def test_the_order_of_the_channels():
    spec = ClickInput(edge=32, radius=2)
    previous = np.full((32, 32), 0.25, np.float32)
    pixels = np.arange(1024, dtype=np.float32).reshape(1, 32, 32)
    found = encode(pixels, previous, [(4, 5)], [(20, 21)], spec)
    assert found.shape == (6, 32, 32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], found[2])
    np.testing.assert_array_equal(found[3], previous)
    assert found[4, 4, 5] == 1
    assert found[4].sum() == 13
    assert found[5, 20, 21] == 1
    assert found[5].sum() == 13
    assert not encode(pixels, None, [], [], spec)[3:].any()


def test_a_crop_of_another_size_is_refused():
    with pytest.raises(ValueError, match="not \\(C, 32, 32\\)"):
        encode(np.zeros((1, 31, 32), np.float32), None, [], [], ClickInput(edge=32))


def test_the_card_says_what_can_not_be():
    from pydantic import ValidationError

    from unet_studio.models.card import ModelCard

    fields = {
        "name": "c", "architecture": "unet", "in_channels": 6, "representation": "binary",
        "clicks": {"edge": 64},
    }  # fmt: skip
    assert ModelCard.model_validate(fields).clicks == ClickInput(edge=64)
    assert ModelCard.model_validate({**fields, "clicks": None}).clicks is None
    wrong = (
        {"in_channels": 3},
        {"representation": "objects"},
        {"clicks": {"edge": 100}},  # no multiple of the stride
        {"clicks": {"low": 99, "high": 1}},
    )
    for change in wrong:
        with pytest.raises(ValidationError):
            ModelCard.model_validate({**fields, **change})


def test_the_file_of_a_click_model_gives_it_back(random_model, tmp_path):
    from unet_studio import load_model, save_model

    saved = save_model(random_model, tmp_path / "mine.safetensors")
    assert load_model(tmp_path / "mine.safetensors").card == saved.card
    assert saved.card.clicks.edge == 64


def test_an_ordinary_run_with_a_click_model_is_refused(random_model):
    from unet_studio import segment
    from unet_studio.errors import ModelError

    with pytest.raises(ModelError, match="this model answers clicks; use Click"):
        segment(np.zeros((64, 64), np.uint8), random_model)


def test_a_session_with_an_ordinary_model_is_refused():
    from unet_studio import ClickSession
    from unet_studio.errors import ModelError

    with pytest.raises(ModelError, match="does not answer clicks"):
        ClickSession(np.zeros((64, 64), np.uint8), "random:unet-tiny")


def test_rounding_of_an_even_crop_is_not_taken_for_contrast():
    even = np.full((1, 32, 32), 200, np.float32)
    even[0, 3] = np.nextafter(np.float32(200), np.float32(300))
    assert not scale_intensities(even).any()
    even[0, 3] = 200.1
    assert scale_intensities(even).max() == 1
