"""Fused networks do the same, and without the passes over memory that they are to save."""

import platform

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from unet_studio.inference.precision import prepare
from unet_studio.models.fusing import FusedConvolution, fuse
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model

CPU = torch.device("cpu")
X86 = platform.machine().lower() in ("x86_64", "amd64")
pytestmark = pytest.mark.skipif(not X86, reason="not an x86-64 processor")


class Called(TorchDispatchMode):
    """Names of the operations that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def image_of(channels, edge=64):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, channels, edge, edge, generator=generator)
    return image.contiguous(memory_format=torch.channels_last)


def difference(network, fused, image):
    with torch.inference_mode():
        expected, found = network(image).float(), fused(image).float()
    assert found.shape == expected.shape
    return float((found - expected).abs().mean() / expected.std())


@pytest.mark.parametrize("name", ["nuclei", "em-membranes", "clicks"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bundled_models_say_the_same_without_joins_and_relus(name, precision):
    model = load_model(name)
    dtype = getattr(torch, precision)
    apart = prepare(model.network, model.card, CPU, precision, fused=False)
    fused = prepare(model.network, model.card, CPU, precision)
    image = image_of(model.card.in_channels).to(dtype)
    assert difference(apart, fused, image) <= (1e-6 if precision == "float32" else 2e-2)
    with torch.no_grad():
        before, after = Called(), Called()
        with before:
            apart(image)
        with after:
            fused(image)
    assert {"cat", "relu_"} <= set(before.names)
    # oneDNN has no bfloat16 for processors without AVX-512 or AMX: all stays as it was there.
    can = precision == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert bool({"cat", "relu_", "relu"} & set(after.names)) == (not can)


@pytest.mark.parametrize("name", ["unet-tiny", "resnet18", "efficientnet-b0"])
def test_networks_of_other_encoders_say_the_same(name):
    model = new_model(name)
    apart = prepare(model.network, model.card, CPU, "float32", fused=False)
    fused = prepare(model.network, model.card, CPU, "float32")
    joining = [m for m in fused.modules() if isinstance(m, FusedConvolution) and len(m._names) > 1]
    assert joining
    assert difference(apart, fused, image_of(model.card.in_channels)) <= 1e-5


class Decoder(nn.Module):
    """Joins two results of convolutions, and does something with them."""

    def __init__(self, then):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.last, self.relu = nn.Conv2d(10, 5, 3, padding=1, groups=1), nn.ReLU()
        self.then = then

    def forward(self, image):
        return self.then(self, torch.cat([self.first(image), self.second(image)], dim=1))


OTHERWISE = {
    "its shape": lambda net, x: net.relu(net.last(x)).reshape(x.shape[0], 5, *x.shape[-2:]),
    "arithmetic": lambda net, x: net.last(x * 2 + 1),
    "a function": lambda net, x: net.last(torch.nn.functional.gelu(x)),
    "twice": lambda net, x: net.last(x) + x[:, :5] + x.mean(),
    "once more": lambda net, x: net.relu(net.last(x)) + net.relu(net.last(x.flip(2))),
    "before the relu, too": lambda net, x: (lambda y: net.relu(y) + y)(net.last(x)),
    "another axis": lambda net, x: net.last(torch.cat([x, x], dim=2)),
    "not a tensor": lambda net, x: net.last(x if isinstance(x, torch.Tensor) else None),
    "a list": lambda net, x: net.last(torch.cat(list(x.split(4, dim=1)), 1)),
}


@pytest.mark.parametrize("then", OTHERWISE.values(), ids=OTHERWISE)
def test_whatever_else_is_done_with_joined_features(then):
    network = Decoder(then).eval().to(memory_format=torch.channels_last)
    image = image_of(3, 32)
    assert difference(network, fuse(network, image), image_of(3, 48)) <= 1e-6


def test_what_is_done_at_some_sizes_only():
    """The small example does not come by there."""

    def cut(net, x):
        return net.relu(net.last(x if x.shape[2] <= 32 else 1 - 2 * x[:, :, :32]))

    network = Decoder(cut).eval().to(memory_format=torch.channels_last)
    fused = fuse(network, image_of(3, 32))
    assert fused is not network
    assert difference(network, fused, image_of(3, 64)) <= 1e-6


@pytest.mark.parametrize(
    "convolution",
    [
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 6, 3, stride=2, dilation=2, groups=3),
        nn.Conv2d(3, 4, (3, 1), bias=False),
    ],
    ids=["reflected", "same", "depthwise", "no bias"],
)
def test_convolutions_of_all_kinds(convolution):
    network = nn.Sequential(convolution, nn.ReLU()).eval().to(memory_format=torch.channels_last)
    assert difference(network, fuse(network, image_of(3)), image_of(3, 40)) <= 1e-6


def test_the_network_given_stays_as_it_is():
    network = Decoder(lambda net, x: net.relu(net.last(x))).eval()
    image = image_of(3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fused = fuse(network, image)
    assert fused is not network
    assert type(network.last) is nn.Conv2d
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_each_layer_can_be_stopped():
    """A run is cancelled in front of modules that have no others in them."""
    model = load_model("nuclei")
    network = prepare(model.network, model.card, CPU, "float32")
    fused = [m for m in network.modules() if isinstance(m, FusedConvolution)]
    assert len(fused) == 18
    assert not any(list(module.children()) for module in fused)


def test_only_where_it_was_measured(monkeypatch):
    network, image = Decoder(lambda net, x: net.relu(net.last(x))).eval(), image_of(3)
    assert fuse(network, image) is not network
    assert fuse(network.half(), image.half()) is network
    network.float()
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert fuse(network, image) is network


def test_a_processor_that_lacks_the_operation(monkeypatch):
    network, image = Decoder(lambda net, x: net.relu(net.last(x))).eval(), image_of(3)

    def lacking(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr(FusedConvolution, "forward", lacking)
    assert fuse(network, image) is network


def test_what_comes_out_different_is_not_used(monkeypatch):
    network, image = Decoder(lambda net, x: net.relu(net.last(x))).eval(), image_of(3)
    right = FusedConvolution.forward
    monkeypatch.setattr(FusedConvolution, "forward", lambda *args: 1.01 * right(*args))
    assert fuse(network, image) is network
