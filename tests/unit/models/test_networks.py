"""Every registered network builds, runs and keeps its promises."""

import pytest
import torch
from torch import nn

from unet_studio.errors import ModelError, RecipeError
from unet_studio.models.card import ModelCard
from unet_studio.models.model import build_network, load_model
from unet_studio.models.networks import NETWORKS
from unet_studio.models.networks.unet import ORIGINAL_WIDTHS, UNet
from unet_studio.models.presets import PRESETS, new_model


def card(architecture, **fields):
    values = {"name": "t", "in_channels": 2, "representation": "objects"} | fields
    return ModelCard(architecture=architecture, **values)


def test_the_original_unet_is_the_one_of_the_paper():
    """Widths, operations and order; the paper's 31 M weights."""
    network = UNet(1, 2)
    assert tuple(block[0].out_channels for block in network.down) == ORIGINAL_WIDTHS
    for block in network.down:
        kinds = [type(m) for m in block]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 2
        assert all(m.kernel_size == (3, 3) for m in block if isinstance(m, nn.Conv2d))
    for block, width in zip(network.up, reversed(ORIGINAL_WIDTHS[:-1]), strict=True):
        assert isinstance(block.up, nn.ConvTranspose2d)
        assert block.up.kernel_size == block.up.stride == (2, 2)
        assert (block.up.in_channels, block.up.out_channels) == (2 * width, width)
        assert block.convolutions[0].in_channels == 2 * width
    assert network.head.kernel_size == (1, 1)
    assert 31.0e6 < sum(p.numel() for p in network.parameters()) < 31.1e6


def test_three_dimensional_unet():
    network = UNet(1, 1, (4, 8), ndim=3).eval()
    assert network(torch.zeros(1, 1, 4, 6, 8)).shape == (1, 1, 4, 6, 8)


@pytest.mark.parametrize(
    ("architecture", "fields", "message"),
    [
        ("smp-unet", {"options": {"encoder": "resnet19"}}, "no encoder called 'resnet19'"),
        ("smp-unet", {"ndim": 3}, "two-dimensional"),
        ("smp-unet", {"options": {"depth": 9}}, "choose 3, 4 or 5"),
        ("unet", {"options": {"widths": (4,)}}, "at least two"),
    ],
)
def test_impossible_networks_are_refused(architecture, fields, message):
    with pytest.raises(ModelError, match=message):
        build_network(card(architecture, **fields))


def test_unknown_architecture_lists_the_known():
    with pytest.raises(RecipeError, match="no network called 'vnet'. Known: unet, sd-unet"):
        build_network(card("vnet"))


def test_random_source_is_seeded_and_described():
    first = load_model("random:unet-tiny?in_channels=2&seed=5")
    again = load_model("random:unet-tiny?in_channels=2&seed=5")
    other = load_model("random:unet-tiny?in_channels=2&seed=6")
    weight = first.network.head.weight
    assert torch.equal(weight, again.network.head.weight)
    assert not torch.equal(weight, other.network.head.weight)
    assert "untrained" in first.card.name


def test_random_source_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_model("random:unet-tiny")
    assert torch.equal(torch.rand(3), expected)


def test_classes_source():
    model = load_model("random:unet-tiny?representation=classes&classes=sky,cell,debris")
    assert model.card.out_channels == 3


@pytest.mark.parametrize("what", ["random:nonsense", "random:unet-tiny?colour=red",
                                  "random:unet-tiny?in_channels=x"])  # fmt: skip
def test_wrong_random_sources_are_refused(what):
    with pytest.raises(ModelError, match="Known|whole number"):
        load_model(what)


def test_presets_name_real_networks():
    assert {architecture for architecture, _ in PRESETS.values()} <= set(NETWORKS.names())
    with pytest.raises(ModelError, match="Known: unet"):
        new_model("unknown")
