"""On an NVIDIA GPU: the same figures as on the CPU. Run with ``pytest -m gpu``."""

import numpy as np
import pytest

from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

pytestmark = pytest.mark.gpu
FULL = {"keep": "logits", "precision": "float32"}


@pytest.fixture(scope="module")
def model():
    return new_model("unet-slim", representation="objects")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 4000, (777, 901)).astype(np.uint16)


def test_tiles_equal_whole(model, image):
    whole = predict(image, model, device="cuda", tiling={"tile": 2048}, **FULL)
    tiled = predict(image, model, device="cuda", tiling={"tile": 304}, **FULL)
    assert whole.record["device"].startswith("cuda")
    difference = np.abs(tiled.probabilities - whole.probabilities).max()
    assert difference <= 1e-5 * whole.probabilities.std()


def test_the_gpu_gives_what_the_cpu_gives(model, image):
    cpu = predict(image, model, device="cpu", **FULL).probabilities
    gpu = predict(image, model, device="cuda", **FULL).probabilities
    assert np.abs(gpu - cpu).max() <= 1e-4 * cpu.std()


def test_half_precision_hardly_changes_a_decision(image):
    model = load_model("nuclei")
    full = predict(image, model, device="cuda", precision="float32").probabilities[0]
    half = predict(image, model, device="cuda", precision="auto").probabilities[0]
    assert ((full > 0.5) != (half > 0.5)).mean() <= 1e-3
