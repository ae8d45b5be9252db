"""A small model that was trained once, and annotations to refine it with."""

from __future__ import annotations

import pytest

from support import scenes


@pytest.fixture(scope="session")
def pictures():
    """Images and truth, axes (T, Y, X), and strokes on them."""
    image, truth = scenes.scene()
    return image, truth, scenes.strokes(truth)


@pytest.fixture(scope="session")
def taught(pictures):
    """What came of refining a network without any knowledge."""
    from unet_studio.training.refine import refine

    image, _, painted = pictures
    return refine(image, painted, "random:unet-tiny", axes="TYX", steps=30, crop=48, rate=3e-3)


@pytest.fixture(scope="session")
def model_file(taught, tmp_path_factory):
    """The same as a file."""
    from unet_studio.models.model import save_model

    path = tmp_path_factory.mktemp("taught") / "disks.safetensors"
    save_model(taught.model, path)
    return path
