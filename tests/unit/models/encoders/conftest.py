"""A hub of weights on this computer, and none beside it."""

from __future__ import annotations

import pytest

from support.encoders import make_hub, published_weights


@pytest.fixture(autouse=True)
def no_other_hub(tmp_path, monkeypatch):
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
    return published_weights()


@pytest.fixture
def hub(web, monkeypatch, tiny_weights):
    """A hub on this computer that holds the weights of the tiny encoder."""
    return make_hub(web, monkeypatch, tiny_weights)
