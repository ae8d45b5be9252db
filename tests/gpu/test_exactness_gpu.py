"""On an NVIDIA GPU: the same figures as on the CPU. Run with ``pytest -m gpu``."""

import numpy as np
import pytest

from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def model():
    return new_model("unet-slim", representation="objects")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 4000, (777, 901)).astype(np.uint16)


def test_tiles_equal_whole(model, image):
    whole = predict(image, model, keep="logits", device="cuda", tiling={"tile": 2048})
    tiled = predict(image, model, keep="logits", device="cuda", tiling={"tile": 304})
    assert whole.record["device"].startswith("cuda")
    difference = np.abs(tiled.probabilities - whole.probabilities).max()
    assert difference <= 1e-5 * whole.probabilities.std()


def test_the_gpu_gives_what_the_cpu_gives(model, image):
    cpu = predict(image, model, keep="logits", device="cpu").probabilities
    gpu = predict(image, model, keep="logits", device="cuda").probabilities
    assert np.abs(gpu - cpu).max() <= 1e-4 * cpu.std()
