"""A network is hashed once, and what was changed is another network."""

import copy
import gc
import hashlib

import numpy as np
import pytest
import torch

from unet_studio.inference import choice
from unet_studio.inference import openvino as backend
from unet_studio.inference.choice import INT8, Trial
from unet_studio.inference.fingerprint import digest_of
from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict

IMAGE = np.eye(64, dtype=np.float32)
INTEGERS = {"device": "cpu", "precision": "int8"}


@pytest.fixture
def model():
    return new_model("unet-tiny", representation="objects")


@pytest.fixture
def hashed(monkeypatch):
    """Bytes that went into each hash that was made."""
    sizes, real = [], hashlib.sha256

    class Counting:
        def __init__(self, content=b"", **_):
            self._hash, self._place = real(), len(sizes)
            sizes.append(0)
            self.update(content)

        def update(self, content):
            self._hash.update(content)
            sizes[self._place] += memoryview(content).nbytes

        def hexdigest(self):
            return self._hash.hexdigest()

    monkeypatch.setattr(hashlib, "sha256", Counting)
    return sizes


@pytest.fixture
def integers(monkeypatch, tmp_path):
    """Let integers be made at once, and have been tried out."""
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path))
    monkeypatch.setattr(backend, "eight_bits", lambda graph, *_: graph.clone())
    monkeypatch.setattr(choice, "remembered", lambda *_: {str(INT8): Trial(1e-6, 0.01)})


def whole_networks(hashed, model):
    weights = sum(4 * parameter.numel() for parameter in model.network.parameters())
    return sum(size >= weights for size in hashed)


def test_a_network_is_hashed_once_for_many_images(model, hashed, integers):
    for _ in range(3):
        assert predict(IMAGE, model, **INTEGERS).record["precision"] == "int8"
    assert whole_networks(hashed, model) == 1


def test_another_network_with_the_same_weights_has_the_same_hash(model):
    twin = Model(model.card, copy.deepcopy(model.network))
    assert digest_of(model) == digest_of(twin)
    other = new_model("unet-tiny", representation="objects", seed=7)
    assert digest_of(model) != digest_of(other)


def largest(model):
    return max(model.network.parameters(), key=torch.numel)


def step(model):
    weights = largest(model).requires_grad_(True)
    optimizer = torch.optim.AdamW([weights], lr=1e-3)
    weights.square().sum().backward()
    optimizer.step()


def load(model):
    state = {name: value + 1 for name, value in model.network.state_dict().items()}
    model.network.load_state_dict(state)


def assign(model):
    state = {name: value.clone() for name, value in model.network.state_dict().items()}
    first = next(name for name, value in state.items() if value.is_floating_point())
    state[first] += 1
    model.network.load_state_dict(state, assign=True)


def behind_torchs_back(model):
    largest(model).data.add_(1e-3)


def by_numpy(model):
    largest(model).numpy().reshape(-1)[7] += np.float32(1e-6)


def places_changed(model):
    weights = largest(model).data
    weights.copy_(weights.flip(0))


def within_a_row(model):
    flat = largest(model).data.view(-1)
    flat[:8].copy_(flat[:8].flip(0))


def another_layer(model):
    next(m for m in model.network.modules() if isinstance(m, torch.nn.BatchNorm2d)).eps = 0.1


@pytest.mark.parametrize(
    "change",
    [
        step, load, assign, behind_torchs_back, by_numpy, places_changed, within_a_row,
        another_layer,
    ],
)  # fmt: skip
def test_a_changed_network_is_hashed_anew(model, change):
    before = digest_of(model)
    change(model)
    after = digest_of(model)
    assert after != before
    # What a network without a past is given.
    assert after == digest_of(Model(model.card, copy.deepcopy(model.network)))


def test_weights_made_in_inference_mode_count_too(model):
    with torch.inference_mode():
        weights = {name: value.clone() for name, value in model.network.state_dict().items()}
    model.network.load_state_dict(weights, assign=True)
    before = digest_of(model)
    with torch.inference_mode():
        largest(model).add_(1)
    assert digest_of(model) != before


def test_no_network_is_held():
    from unet_studio.inference import fingerprint

    gc.collect()
    before = len(fingerprint._known)
    model = new_model("unet-tiny", representation="objects")
    digest_of(model)
    assert len(fingerprint._known) == before + 1
    del model
    gc.collect()
    assert len(fingerprint._known) == before
