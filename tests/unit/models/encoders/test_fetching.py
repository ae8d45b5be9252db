"""Trained weights from a hub: fetched when asked for, once, and looked at."""

from __future__ import annotations

import json

import pytest
import torch

from support.encoders import TINY
from unet_studio.errors import DownloadError, ModelError
from unet_studio.models.creating import NewModel
from unet_studio.models.encoder_files import encoders_folder, offer_weights, own_path
from unet_studio.models.encoders import find_encoder
from unet_studio.models.presets import new_model


def test_nothing_is_downloaded_unasked(hub):
    with pytest.raises(ModelError, match=r"nothing is downloaded unasked.*--download"):
        new_model(TINY, weights="imagenet")
    assert hub.requests == []


def test_weights_are_fetched_once_used_and_recorded(hub, tiny_weights):
    model = new_model(TINY, weights="imagenet", in_channels=3, download=True)
    assert hub.paths() == [hub.path]
    assert own_path(hub.weights).read_bytes() == tiny_weights
    card = model.card
    assert card.normalisation.method == "pretrained"
    assert card.normalisation.options["mean"] == list(hub.weights.mean)
    assert card.licence == f"encoder: {hub.weights.licence}"
    assert card.training["encoder_weights"].startswith(hub.weights.repository)
    assert len(card.training["encoder_sha256"]) == 64
    # Now it is here: no permission and no network are needed.
    again = new_model(TINY, weights="imagenet", in_channels=3)
    assert len(hub.requests) == 1
    for name, value in model.network.encoder.state_dict().items():
        assert torch.equal(value, again.network.encoder.state_dict()[name])
    random = new_model(TINY, in_channels=3)
    assert not torch.equal(
        random.network.encoder.model.conv_stem.weight, model.network.encoder.model.conv_stem.weight
    )


def test_F64_encoder_weights_that_changed_since_their_first_use_are_refused(hub, tiny_weights):
    new_model(TINY, weights="imagenet", download=True)
    changed = bytearray(tiny_weights)
    changed[-1] ^= 1
    own_path(hub.weights).write_bytes(changed)
    with pytest.raises(ModelError, match="not those that were used before"):
        new_model(TINY, weights="imagenet")


def test_a_damaged_file_is_named_and_not_remembered(hub, tiny_weights):
    own = own_path(hub.weights)
    own.parent.mkdir(parents=True)
    own.write_bytes(tiny_weights[:-1000])
    with pytest.raises(ModelError, match=r"can not be|damaged"):
        new_model(TINY, weights="imagenet")
    own.write_bytes(tiny_weights)
    new_model(TINY, weights="imagenet")


def test_F76_without_a_network_it_is_told_which_file_to_put_where(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match="HF_HUB_OFFLINE") as caught:
        new_model(TINY, weights="imagenet", download=True)
    assert str(own_path(hub.weights).parent) in str(caught.value)
    assert offer_weights(hub.weights).url in str(caught.value)
    assert hub.requests == []


def test_F63_a_page_instead_of_encoder_weights_is_refused(hub):
    hub.pages[hub.path] = hub.page(b"<!DOCTYPE html><title>Log in</title>")
    with pytest.raises(DownloadError, match="web page"):
        new_model(TINY, weights="imagenet", download=True)
    assert not own_path(hub.weights).exists()


def test_F75_a_file_in_the_cache_of_the_hub_is_taken(hub, tiny_weights, tmp_path, monkeypatch):
    import huggingface_hub

    cached = tmp_path / "cached.safetensors"
    cached.write_bytes(tiny_weights)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *a, **k: str(cached))
    new_model(TINY, weights="imagenet")
    assert hub.requests == []
    assert not own_path(hub.weights).exists()
    assert json.loads((encoders_folder() / "sha256.json").read_text())


def test_what_would_be_fetched_is_known_before(hub):
    new = NewModel(f"smp-fpn/{TINY}", weights="imagenet")
    assert new.to_fetch().url == hub.url(hub.path)
    assert NewModel(f"smp-fpn/{TINY}").to_fetch() is None
    assert NewModel("unet-tiny", weights="some/file.pth").to_fetch() is None
    size, whole = new.size()
    assert size.parameters == find_encoder(TINY).parameters
    assert not whole
    assert NewModel("unet-tiny", ndim=3).size()[1]
