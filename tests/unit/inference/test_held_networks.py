"""Networks on a device are shared by tiles and runs, until they are others."""

import gc
import weakref

import pytest
import torch

from unet_studio.inference import executor
from unet_studio.inference.held_networks import held_network, let_go
from unet_studio.inference.trials import Numerics
from unet_studio.models.presets import new_model

DEVICE = torch.device("cpu")  # stands for a GPU


@pytest.fixture
def model():
    return new_model("unet-tiny")


def test_one_network_serves_all_who_ask(model):
    held = held_network(model, DEVICE, "float32")
    assert held is held_network(model, DEVICE, "float32")
    assert held is not model.network
    other = held_network(model, DEVICE, "bfloat16")
    assert next(other.parameters()).dtype == torch.bfloat16
    assert held_network(new_model("unet-tiny"), DEVICE, "float32") is not held


def test_changed_weights_are_another_network(model):
    image = torch.rand(1, model.card.in_channels, 32, 32)
    before = held_network(model, DEVICE, "float32")(image)
    with torch.no_grad():
        for parameter in model.network.parameters():
            parameter.data.mul_(1.5)  # behind torch's back
    changed = held_network(model, DEVICE, "float32")(image)
    expected = model.network(image)
    assert (changed - expected).abs().max() < 1e-3 * expected.std()
    assert (before - expected).abs().max() > 0.1 * expected.std()


def test_it_goes_when_memory_is_short(model):
    held = weakref.ref(held_network(model, DEVICE, "float32"))
    let_go(torch.device("meta"))
    gc.collect()
    assert held() is not None
    let_go(DEVICE)
    gc.collect()
    assert held() is None


def test_nothing_outlives_the_model():
    model = new_model("unet-tiny")
    held = weakref.ref(held_network(model, DEVICE, "float32"))
    del model
    gc.collect()
    assert held() is None


def test_an_executor_on_a_gpu_uses_it(model, monkeypatch):
    """And lets go of all others where memory is short."""
    asked, gone = [], []
    monkeypatch.setattr(executor, "held_network", lambda *args: asked.append(args))
    monkeypatch.setattr(executor, "let_go", gone.append)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    gpu = torch.device("cuda", 0)
    lane = executor.Executor.__new__(executor.Executor)
    lane.device, lane.numerics, lane._model = gpu, Numerics("torch", "bfloat16"), model
    lane._token = type("Token", (), {"raise_if_cancelled": lambda self: None})()
    lane._prepared()
    assert asked == [(model, gpu, "bfloat16")]
    lane._plan = type("Plan", (), {"tiles": type("Tiles", (), {"blend": None})})
    lane._batch, lane._depth, lane.notices = 2, 0, []
    lane._make_smaller(2)
    assert gone == [gpu]
