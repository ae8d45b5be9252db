"""Click models for tests: one that knows nothing, and one that finds bright blobs exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage


@pytest.fixture(scope="session")
def random_model():
    """A click model whose weights were never trained."""
    from unet_studio.models.click_input import ClickInput
    from unet_studio.models.presets import new_model

    return new_model(
        "unet-tiny", in_channels=6, clicks=ClickInput(edge=64), name="random clicks", seed=3
    )


@pytest.fixture(scope="session")
def random_network(random_model):
    from unet_studio.clicks.network import ClickNetwork

    return ClickNetwork(random_model, "cpu")


@pytest.fixture(scope="session")
def blobs(random_model):
    """A stand-in that takes the bright pieces under positive clicks, but none under negative.

    Without a click on a bright piece it says no everywhere. It counts its calls.
    """
    from unet_studio.clicks.network import ClickNetwork

    class Blobs(ClickNetwork):
        calls = 0

        def __call__(self, crops):
            self.calls += 1
            return [self.answer(crop) for crop in crops]

        def answer(self, crop):
            pieces, _ = ndimage.label(crop[0] > 0.5)
            kept = np.unique(pieces[(crop[4] > 0)])
            lost = np.unique(pieces[(crop[5] > 0)])
            found = np.isin(pieces, np.setdiff1d(kept, np.append(lost, 0)))
            return np.where(found, 0.95, 0.02).astype(np.float32)

    return Blobs(random_model, "cpu")


def disk(shape, centre, radius):
    grid = np.ogrid[tuple(map(slice, shape))]
    return sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2


@pytest.fixture
def three_disks():
    """An image of 8 bit with disks of radius 8, 12 and 25 on a dark ground, and its labels."""
    labels = np.zeros((200, 240), np.uint16)
    for number, (centre, radius) in enumerate(
        [((40, 50), 8), ((60, 160), 12), ((140, 90), 25)], 1
    ):
        labels[disk(labels.shape, centre, radius)] = number
    noise = np.random.default_rng(0).integers(0, 12, labels.shape)
    return ((labels > 0) * 180 + noise).astype(np.uint8), labels
