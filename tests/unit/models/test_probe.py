"""The probe: measured reach, and which networks tiles can reproduce (P03, P04)."""

import pytest
import torch
from torch import nn

from unet_studio.models.card import ModelCard
from unet_studio.models.presets import new_model
from unet_studio.models.probe import (
    activation_bytes_per_pixel,
    probe_network,
    receptive_radii,
)


def card(**fields):
    return ModelCard(
        name="t", architecture="unet", in_channels=1, representation="binary", **fields
    )


def convolutions(*kernels):
    net = nn.Sequential(*(nn.Conv2d(1, 1, k, padding=k // 2) for k in kernels))
    net.stride = 1
    return net


@pytest.mark.parametrize(("kernels", "radius"), [((3,), 1), ((3, 3), 2), ((5, 7), 5), ((1,), 0)])
def test_P03_radius_of_plain_convolutions_is_known_exactly(kernels, radius):
    assert receptive_radii(convolutions(*kernels), 1, (1, 1)) == (radius, radius)


def test_dilation_counts():
    net = nn.Conv2d(1, 1, 3, padding=4, dilation=4)
    assert receptive_radii(net, 1, (1, 1)) == (4, 4)


def test_dead_activations_do_not_hide_reach():
    """With these weights every ReLU is off; the radius must not shrink to nothing."""
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU(), nn.Conv2d(1, 1, 3, padding=1))
    with torch.no_grad():
        net[0].weight.fill_(-1.0)
        net[0].bias.fill_(-100.0)
    assert receptive_radii(net, 1, (1, 1)) == (2, 2)


def test_plain_unet_is_exact_in_tiles():
    model = new_model("unet-tiny")
    # Two 3x3 convolutions on each of four levels down and up, and a bottom:
    # by hand 2*(1+2+4+8)*2 + 2*16 = 92, plus what the poolings and the
    # transposed convolutions shift inside a block of 16.
    assert model.card.stride == 16
    assert model.card.tile_invariant
    assert model.card.halo == 96


def test_widths_do_not_change_reach():
    assert new_model("unet-slim").card.halo == new_model("unet-tiny").card.halo


class Level(nn.Module):
    """One pooling, one join; what comes between varies."""

    stride = 2

    def __init__(self, norm, up):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), norm, nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.deep = nn.Conv2d(4, 4, 3, padding=1)
        self.up = up
        self.head = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x):
        skip = self.inner(x)
        return self.head(skip + self.up(self.deep(self.pool(skip))))


class SqueezeExcite(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(x.mean(dim=(2, 3), keepdim=True))


NEAREST = nn.Upsample(scale_factor=2, mode="nearest")
CASES = {
    "batch norm": (Level(nn.BatchNorm2d(4), NEAREST), True),
    "no norm": (Level(nn.Identity(), NEAREST), True),
    "instance norm": (Level(nn.InstanceNorm2d(4), NEAREST), False),
    "group norm": (Level(nn.GroupNorm(2, 4), NEAREST), False),
    "squeeze and excite": (Level(SqueezeExcite(), NEAREST), False),
    "align_corners": (
        Level(nn.Identity(), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        False,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_P04_which_networks_tiles_can_reproduce(name):
    net, invariant = CASES[name]
    torch.manual_seed(0)
    assert probe_network(net, card(stride=2)).tile_invariant is invariant


class AlongX(nn.Module):
    """Resized along X in a way that depends on the whole width; harmless along Y."""

    stride = 2

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x):
        small = nn.functional.avg_pool2d(self.conv(x), (1, 2))
        return nn.functional.interpolate(
            small, scale_factor=(1.0, 2.0), mode="bilinear", align_corners=True
        )


def test_tiling_is_checked_along_every_axis():
    torch.manual_seed(0)
    assert not probe_network(AlongX(), card(stride=2)).tile_invariant


def test_a_small_deviation_about_a_large_mean_is_not_mistaken_for_seams():
    """In float32 rounding is then much of it, and differs with the shape of a tile."""
    for seed in range(8):
        torch.manual_seed(seed)
        layers, channels = [], 1
        for dilation in (1, 2, 4, 8):
            layers += [
                nn.Conv2d(channels, 8, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(inplace=True),
            ]
            channels = 8
        net = nn.Sequential(*layers, nn.Conv2d(8, 1, 1))
        net.stride = 1
        assert probe_network(net, card(stride=1)).tile_invariant, seed


def test_a_network_through_which_nothing_comes_is_not_called_exact():
    net = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Threshold(1e9, 0.0))
    net.stride = 1
    assert not probe_network(net, card(stride=1)).tile_invariant


def test_probe_leaves_the_network_as_it_was():
    net = Level(nn.BatchNorm2d(4), NEAREST).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    probe_network(net, card(stride=2))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_encoders_are_classed(encoder):
    model = new_model(encoder)
    assert model.card.stride == 32
    assert model.card.tile_invariant is (encoder == "resnet18")
    assert (model.card.halo is None) is (encoder == "efficientnet-b0")


def test_memory_grows_with_width():
    slim, tiny = new_model("unet-slim").card, new_model("unet-tiny").card
    assert 1.5 < slim.bytes_per_pixel / tiny.bytes_per_pixel < 2.5


def test_weights_are_no_memory_of_activations():
    """A linear layer looks at its weights through a view, which is not one more copy."""

    class Pointwise(nn.Module):
        stride = 1

        def __init__(self, width):
            super().__init__()
            self.into, self.out = nn.Linear(1, width), nn.Linear(width, 1)

        def forward(self, x):
            pooled = x.mean((2, 3))  # so that width costs weights alone
            return x + self.out(self.into(pooled))[..., None, None]

    few, many = (activation_bytes_per_pixel(Pointwise(n), 1, (1, 1)) for n in (1, 500_000))
    assert many < few + 2 * 4 * 500_000 / 256**2
