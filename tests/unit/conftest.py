"""Images and settings that several test files of the engine use."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture
def field():
    """A maker of images: ``field(shape)``, blurred discs on noise, some of them touching."""

    def draw(shape, seed=0):
        rng = np.random.default_rng(seed)
        y, x = np.mgrid[: shape[-2], : shape[-1]]
        image = np.zeros(shape[-2:])
        for _ in range(shape[-2] * shape[-1] // 900):
            cy, cx, r = rng.uniform(0, shape[-2]), rng.uniform(0, shape[-1]), rng.uniform(4, 11)
            image = np.maximum(image, np.clip(r - np.hypot(y - cy, x - cx), 0, 3) / 3)
        stack = np.broadcast_to(image, shape) * 180 + rng.normal(30, 6, shape)
        return np.clip(stack, 0, 255).astype(np.uint8)

    return draw


@pytest.fixture
def small_blocks(monkeypatch):
    """Seams in small images, too."""
    from unet_studio import streaming
    from unet_studio.images import zarr_levels

    monkeypatch.setattr(zarr_levels, "_FLAT_CHUNK", 64)
    monkeypatch.setattr(streaming, "_BLOCK", {2: (128, 128), 3: (2, 128, 128)})
    monkeypatch.setattr(streaming, "SCRATCH_CHUNK", {2: (64, 64), 3: (2, 64, 64)})
