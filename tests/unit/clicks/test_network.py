"""A click network on a GPU that has no memory left: the CPU takes over, and it is said once."""

from __future__ import annotations

import json
import weakref

import numpy as np
import pytest
import torch
from torch import nn

from unet_studio import ClickSession, load_model, replay
from unet_studio.clicks.network import ClickNetwork
from unet_studio.errors import ClickError
from unet_studio.inference import devices, precision
from unet_studio.models.model import Model
from unet_studio.samples import read_sample

NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 bytes.")


class Full(nn.Module):
    """A network for which only CPUs have memory, and what was left of the tensors of a GPU."""

    seen: list = []
    left: list = []

    def __init__(self, network: nn.Module, error: Exception = NO_MEMORY) -> None:
        super().__init__()
        self.network, self.error, self.stride = network, error, network.stride

    def forward(self, x):
        if x.device.type != "cpu":
            Full.seen.append(weakref.ref(x))
            raise type(self.error)(*self.error.args)  # one that was raised holds its frames
        Full.left += [seen() for seen in Full.seen if seen() is not None]
        return self.network(x)


@pytest.fixture
def full_gpu(monkeypatch, lacking_device):
    """A maker of click models for which the GPU has no memory when they run."""
    Full.seen, Full.left = [], []
    monkeypatch.setattr(devices, "open_devices", lambda *_: ([lacking_device.DEVICE], None))
    model = load_model("clicks")
    return lambda *error: Model(model.card, Full(model.network, *error).eval())


CROPS = [np.random.default_rng(n).random((6, 64, 64)).astype(np.float32) for n in range(3)]


@pytest.mark.parametrize(
    "error", [NO_MEMORY, RuntimeError("CUDA error: out of memory"), MemoryError()]
)
def test_F54_clicks_go_on_where_a_gpu_is_full(full_gpu, error):
    model = full_gpu(error)
    network = ClickNetwork(model)
    assert network.device == "meta"
    session = ClickSession(read_sample("nuclei_fluorescence")[:128, :128], network)
    for _ in range(2):
        session.click((60, 80))
    for found, expected in zip(network(CROPS), ClickNetwork("clicks", "cpu")(CROPS), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert session.notices == ("The meta ran out of memory; the CPU is used instead.",)
    assert len(Full.seen) == 1, "the GPU is not tried again"
    assert not Full.left, "its tensors are gone before the CPU's are made"
    lines = [json.loads(line) for line in session.journal.splitlines()]
    assert [line.get("device") for line in lines] == ["meta", "cpu", None]
    replay(session.canvas.volume, session.journal, model)


def test_F53_a_gpu_without_memory_for_the_weights_is_not_used(full_gpu, monkeypatch):
    real = precision.prepare

    def prepare(network, card, device, numbers):
        if device.type != "cpu":
            raise NO_MEMORY
        return real(network, card, device, numbers)

    monkeypatch.setattr(precision, "prepare", prepare)
    session = ClickSession(np.zeros((80, 90), np.uint8), full_gpu())
    assert session.notices == ("The meta ran out of memory; the CPU is used instead.",)
    assert json.loads(session.journal.splitlines()[0])["device"] == "cpu"
    assert not Full.seen


def test_another_error_of_a_gpu_is_not_taken_for_want_of_memory(full_gpu):
    network = ClickNetwork(full_gpu(RuntimeError("CUDA error: device-side assert triggered")))
    with pytest.raises(RuntimeError, match="device-side assert"):
        network(CROPS)
    assert network.device == "meta"
    assert not network.notices


def test_where_the_cpu_has_no_memory_either_that_is_raised(monkeypatch):
    network = ClickNetwork("clicks", "cpu")

    def short(_):
        raise NO_MEMORY

    monkeypatch.setattr(network, "_network", short)
    with pytest.raises(torch.OutOfMemoryError):
        network(CROPS)
    assert not network.notices


def test_the_device_that_a_line_was_written_on_is_named():
    image = read_sample("nuclei_fluorescence")[:128, :128]
    session = ClickSession(image, device="cpu")
    for _ in range(2):
        session.click((60, 80))
    lines = [json.loads(line) for line in session.journal.splitlines()]
    lines[1]["device"] = "cuda:0"
    lines[2]["result"] = "another one"
    journal = "\n".join(map(json.dumps, lines))
    with pytest.raises(ClickError, match=r"Line 3 .* written on cuda:0, this is cpu\."):
        replay(image, journal, device="cpu")
    lines[2]["device"] = "cpu"
    with pytest.raises(ClickError, match="Line 3") as caught:
        replay(image, "\n".join(map(json.dumps, lines)), device="cpu")
    assert "written on" not in str(caught.value)
