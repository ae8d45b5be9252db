"""The architecture is told from names and shapes, and only where that is certain."""

from __future__ import annotations

import pytest
import torch

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.foreign.convert import convert_weights
from unet_studio.models.foreign.guess import bare_encoder, guess_architecture
from unet_studio.models.model import build_network
from unet_studio.models.networks.milesial_unet import MilesialUNet

ENCODERS = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"efficientnet-b{size}" for size in range(8)),
)


def shapes_of(network):
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def rebuilt(guess):
    """The network that a guess describes; a card has no other say in its shapes."""
    classes = ("object",) if guess.out_channels == 1 else tuple("abcdefgh"[: guess.out_channels])
    card = ModelCard(
        name="x",
        architecture=guess.architecture,
        options=guess.options,
        in_channels=guess.in_channels,
        ndim=guess.ndim,
        representation="binary" if guess.out_channels == 1 else "classes",
        classes=classes,
    )
    with torch.device("meta"):
        return build_network(card)


def check(network):
    shapes = shapes_of(network)
    guess = guess_architecture(shapes)
    assert guess is not None
    assert shapes_of(rebuilt(guess)) == shapes
    return guess


@pytest.mark.parametrize(
    "encoder",
    ["resnet34", "efficientnet-b0", "timm-tf_efficientnet_lite0", "tu-convnext_tiny",
     "tu-mobilenetv3_large_100", "tu-regnety_002", "densenet121", "vgg11"],
)  # fmt: skip
def test_an_encoder_alone_is_told_from_a_network(encoder):
    from unet_studio.models.model import shapes_only

    card = ModelCard(
        name="x", architecture="smp-unet", options={"encoder": encoder}, in_channels=3,
        representation="binary",
    )  # fmt: skip
    with shapes_only():
        network = build_network(card)
    whole = shapes_of(network)
    alone = {n.removeprefix("encoder."): s for n, s in whole.items() if n.startswith("encoder.")}
    alone = {n.removeprefix("model."): s for n, s in alone.items()}  # as timm has saved it
    assert bare_encoder(alone)
    assert not bare_encoder(whole)


def test_importing_an_encoder_says_how_to_make_a_model_of_it(tmp_path):
    path = tmp_path / "resnet.pt"
    names = ("conv1.weight", "bn1.weight", "layer4.0.conv1.weight", "fc.weight")
    torch.save({name: torch.zeros(1) for name in names}, path)
    with pytest.raises(ModelError, match=r"encoder alone .*models new NAME --encoder ENCODER"):
        convert_weights(path)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("widths", [(3, 5), (4, 8, 16), (2, 4, 6, 8, 10, 12)])
def test_our_own_unet(ndim, widths):
    from unet_studio.models.networks.unet import UNet

    with torch.device("meta"):
        guess = check(UNet(2, 4, widths, ndim))
    assert (guess.architecture, guess.options) == ("unet", {"widths": list(widths)})
    assert (guess.in_channels, guess.out_channels, guess.ndim) == (2, 4, ndim)


@pytest.mark.parametrize("features", [8, 32])
def test_the_hub_unet(features):
    from unet_studio.models.networks.hub_unet import HubUNet

    with torch.device("meta"):
        guess = check(HubUNet(3, 1, features))
    assert guess.options == {"features": features}
    # Only weights of the published shape are run like the published ones.
    assert ("preparation" in guess.card) == (features == 32)


@pytest.mark.parametrize("widths", [(16, 32, 64, 128), (4, 6)])
def test_the_layout_of_the_model_zoo(widths):
    from unet_studio.models.networks.zoo_unet2d import ZooUNet2d

    with torch.device("meta"):
        guess = check(ZooUNet2d(2, 3, widths))
    assert (guess.architecture, guess.options) == ("zoo-unet2d", {"widths": list(widths)})
    assert guess.normalisation.method == "zscore"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("widths", "bilinear", "parameters"),
    [
        ((64, 128, 256, 512, 512), True, 17_263_042),  # of the original, 3 channels, 2 classes
        ((64, 128, 256, 512, 1024), False, 31_037_698),
        ((4, 8, 16), False, None),
        ((4, 8, 8), True, None),
    ],
)
def test_the_layout_of_milesial(widths, bilinear, parameters, bias):
    with torch.device("meta"):
        network = MilesialUNet(3, 2, widths, bilinear=bilinear, bias=bias)
    guess = check(network)
    assert guess.options["bilinear"] is bilinear
    assert guess.options["bias"] is bias
    assert guess.colour
    if parameters and not bias:
        assert sum(p.numel() for p in network.parameters()) == parameters


def test_an_older_form_of_that_layout_with_other_widths_inside():
    # Before the narrower middle of bilinear blocks: read off the shapes, too.
    ups = [(16, 16), (8, 8)]
    with torch.device("meta"):
        guess = check(MilesialUNet(1, 1, (8, 16, 16), ups=ups, bilinear=True, bias=True))
    assert guess.options["ups"] == [list(pair) for pair in ups]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_of_smp_is_told_from_the_others(encoder):
    import segmentation_models_pytorch as smp

    depth = 5 if encoder not in ("resnet34", "efficientnet-b1") else 3
    channels = (40, 32, 24, 16, 8)[-depth:]
    with torch.device("meta"):
        network = smp.Unet(
            encoder,
            encoder_weights=None,
            encoder_depth=depth,
            decoder_channels=channels,
            in_channels=2,
            classes=3,
        )
    guess = check(network)
    assert guess.options == {
        "encoder": encoder,
        "depth": depth,
        "decoder_channels": list(channels),
    }


def test_what_is_not_certain_is_not_guessed(tmp_path):
    import segmentation_models_pytorch as smp

    with torch.device("meta"):
        others = [
            smp.FPN("resnet18", encoder_weights=None),
            smp.UnetPlusPlus("resnet18", encoder_weights=None),
            smp.Unet("mobilenet_v2", encoder_weights=None),
            torch.nn.Conv2d(1, 1, 3),
        ]
    for network in others:
        assert guess_architecture(shapes_of(network)) is None
    path = tmp_path / "other.pt"
    torch.save(torch.nn.Conv2d(1, 1, 3).state_dict(), path)
    with pytest.raises(
        ModelError, match="can not be told.*weight, bias.*milesial-unet.*--set arch"
    ):
        convert_weights(path)


def test_half_of_an_architecture_is_none_of_it():
    shapes = shapes_of(MilesialUNet(1, 1, (4, 8)))
    del shapes["down1.maxpool_conv.1.double_conv.0.weight"]
    assert guess_architecture(shapes) is None


def test_a_decoder_with_more_to_it_is_refused_in_full(tmp_path):
    import segmentation_models_pytorch as smp

    path = tmp_path / "scse.pt"
    network = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse")
    torch.save(network.state_dict(), path)
    with pytest.raises(ModelError, match=r"decoder\.blocks\.0\.attention1"):
        convert_weights(path)
