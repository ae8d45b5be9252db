"""U-Net decoder on a ResNet or EfficientNet encoder, by segmentation-models-pytorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from unet_studio.errors import ModelError

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

RESNETS = tuple(f"resnet{depth}" for depth in (18, 34, 50, 101, 152))
EFFICIENTNETS = tuple(f"efficientnet-b{size}" for size in range(8))
ENCODERS = RESNETS + EFFICIENTNETS
DEFAULT_ENCODER = "resnet34"


def build(card: ModelCard) -> nn.Module:
    """Build the network that ``card`` describes, with random weights.

    ``options`` may hold ``encoder`` (one of :data:`ENCODERS`), ``depth`` (3 to
    5 poolings) and ``decoder_channels``. Nothing is downloaded.

    Raises
    ------
    ModelError
        For an unknown encoder, a wrong depth, or three dimensions.
    """
    import segmentation_models_pytorch as smp

    encoder = str(card.options.get("encoder", DEFAULT_ENCODER))
    depth = int(card.options.get("depth", 5))
    if encoder not in ENCODERS:
        raise ModelError(f"There is no encoder called {encoder!r}. Known: {', '.join(ENCODERS)}.")
    if not 3 <= depth <= 5:
        raise ModelError(f"An encoder depth of {depth} is not possible; choose 3, 4 or 5.")
    if card.ndim != 2:
        raise ModelError("U-Nets with a ResNet or EfficientNet encoder are two-dimensional.")
    default_channels = (256, 128, 64, 32, 16)[-depth:]
    network = smp.Unet(
        encoder_name=encoder,
        encoder_weights=None,
        encoder_depth=depth,
        decoder_channels=tuple(card.options.get("decoder_channels", default_channels)),
        in_channels=card.in_channels,
        classes=card.out_channels,
    )
    network.stride = 2**depth
    return cast("nn.Module", network)
