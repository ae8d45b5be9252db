"""The catalogue of encoders, and which networks can be built on them."""

from __future__ import annotations

import pytest

from support.encoders import LITE, VIT
from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.choices import ARCHITECTURES, PRESETS, choose
from unet_studio.models.encoders import (
    default_encoder,
    families,
    find_encoder,
    list_encoders,
    preset_size,
    search_encoders,
)
from unet_studio.models.model import build_network, shapes_only
from unet_studio.models.presets import new_model


def test_the_catalogue_is_large_and_every_entry_is_whole():
    encoders = list_encoders()
    assert len(encoders) >= 800
    assert sum(len(e.weights) for e in encoders) > 1200
    assert len({e.name for e in encoders}) == len(encoders)
    for encoder in encoders:
        assert encoder.parameters > 50_000, encoder.name
        assert encoder.bytes_per_pixel > 50, encoder.name
        assert min(encoder.networks.values()) > encoder.parameters
        assert ("smp-dpt" in encoder.networks) != ("smp-unet" in encoder.networks)
        for weights in encoder.weights:
            assert weights.licence
            assert "/" in weights.repository
            assert len(weights.mean) == len(weights.std) == 3


def test_the_table_says_what_is_built():
    """So that an update of timm or segmentation-models-pytorch can not make it wrong unseen."""
    for name in (
        "resnet18", "timm-tf_efficientnet_lite0", "mit_b0", LITE, "tu-convnext_tiny", VIT,
    ):  # fmt: skip
        entry, architecture = find_encoder(name), choose(name)[0]
        card = ModelCard(
            name="t", architecture=architecture, options={"encoder": name}, in_channels=3,
            representation="binary",
        )  # fmt: skip
        with shapes_only():
            network = build_network(card)
        assert sum(p.numel() for p in network.parameters()) == entry.networks[architecture]
        assert sum(p.numel() for p in network.encoder.parameters()) == entry.parameters


def built_shapes(encoder, channels):
    """A network on an encoder, without memory for its weights."""
    architecture = choose(encoder.name)[0]
    card = ModelCard(
        name="t", architecture=architecture, options={"encoder": encoder.name},
        in_channels=channels, representation="binary",
    )  # fmt: skip
    with shapes_only():
        return build_network(card), encoder.networks[architecture]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_smallest_encoder_of_every_family_of_smp_can_be_built(channels):
    """Any number of channels; timm's own families are among the slow tests."""
    own = [e for e in list_encoders() if not e.name.startswith("tu-")]
    smallest = {}
    for encoder in sorted(own, key=lambda e: e.parameters):
        smallest.setdefault(encoder.family, encoder)
    assert len(smallest) >= 13
    for encoder in smallest.values():
        network, parameters = built_shapes(encoder, channels)
        found = sum(p.numel() for p in network.parameters())
        assert (found == parameters) == (channels == 3), encoder.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_encoder_that_is_offered_can_be_built():
    for number, encoder in enumerate(list_encoders()):
        network, _ = built_shapes(encoder, (3, 1, 5)[number % 3])
        if number % 3 == 0:
            found = sum(p.numel() for p in network.encoder.parameters())
            assert found == encoder.parameters, encoder.name


def test_the_sizes_of_presets_are_those_of_the_networks():
    for about in ARCHITECTURES.values():
        for preset in about.presets:
            for ndim in about.dimensions:
                architecture, options = PRESETS[preset]
                card = ModelCard(
                    name="t", architecture=architecture, options=options, in_channels=1,
                    ndim=ndim, representation="binary",
                )  # fmt: skip
                with shapes_only():
                    network = build_network(card)
                count = sum(p.numel() for p in network.parameters())
                assert preset_size(preset, ndim).parameters == count, preset


def test_families_and_search():
    assert families()[:2] == ("ResNet", "EfficientNet")
    resnets = [e.name for e in search_encoders(family="resnet")]
    assert resnets[:5] == ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]
    assert LITE in {e.name for e in search_encoders("lite0 EFFICIENTNET")}
    assert search_encoders("no such encoder") == ()
    with pytest.raises(ModelError, match="Did you mean"):
        find_encoder("tu-resnet5")
    with pytest.raises(ModelError, match="Known: random, imagenet"):
        find_encoder("resnet18").find_weights("moon")


@pytest.mark.parametrize(
    ("preset", "ndim", "message"),
    [
        ("smp-fpn", 3, "two-dimensional. In 3D there are: unet"),
        ("unet/resnet18", 2, "has no encoder to choose"),
        ("resnet19", 2, "There is no preset 'resnet19'"),
        ("smp-linknet/resnet19", 2, "no encoder called 'resnet19'"),
    ],
)
def test_what_does_not_exist_is_refused(preset, ndim, message):
    with pytest.raises(ModelError, match=message):
        new_model(preset, ndim=ndim)


def test_an_encoder_alone_is_a_unet_on_it():
    assert choose("resnet50") == ("smp-unet", {"encoder": "resnet50"})
    assert choose("smp-fpn/resnet50") == ("smp-fpn", {"encoder": "resnet50"})
    assert choose(VIT) == ("smp-dpt", {"encoder": VIT}), "a transformer has no pyramid"


def test_transformers_go_with_dpt_and_others_with_all_else():
    assert find_encoder(default_encoder("smp-dpt")).fits("smp-dpt")
    assert not find_encoder(VIT).fits("smp-unet")
    assert find_encoder(LITE).fits("smp-fpn")
    assert not find_encoder(LITE).fits("smp-dpt")
    assert "ResNet" not in families("smp-dpt")
    assert len([e for e in list_encoders() if e.fits("smp-dpt")]) >= 100
    with pytest.raises(ModelError, match="smp-dpt for vision transformers"):
        new_model(f"smp-unet/{VIT}")
    with pytest.raises(ModelError, match="DPT can not be built"):
        new_model("smp-dpt/resnet18")
    with pytest.raises(ModelError, match="patches of 14 pixels"):
        new_model("smp-dpt/tu-vit_small_patch14_dinov2")
