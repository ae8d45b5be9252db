"""A store and a hub of weights that are the tests' own."""

from __future__ import annotations

import pytest
import torch

from support.encoders import TINY
from unet_studio.models.encoders import (
    find_encoder,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def unmeasured(monkeypatch):
    """Leave out the probe, which takes seconds; tests of architectures run it."""
    import unet_studio.models.presets as module

    class Nothing:
        def card_fields(self):
            return {}

    monkeypatch.setattr(module, "probe_network", lambda network, card: Nothing())


@pytest.fixture
def tiny_weights(unmeasured):
    """The bytes of a file as timm publishes it."""
    import timm
    from safetensors.torch import save

    torch.manual_seed(1)
    weights = timm.create_model("test_efficientnet", pretrained=False).state_dict()
    return save({name: value.contiguous() for name, value in weights.items()})


@pytest.fixture
def hub(web, monkeypatch, tiny_weights):
    """A hub on this computer that holds the weights of the tiny encoder."""
    monkeypatch.setenv("HF_ENDPOINT", web.url("/hub"))
    weights = find_encoder(TINY).find_weights("imagenet")
    path = f"/hub/{weights.repository}/resolve/{weights.revision}/model.safetensors"
    web.pages[path] = web.page(tiny_weights)
    web.weights, web.path = weights, path
    return web
