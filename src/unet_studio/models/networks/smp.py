"""2D networks of a decoder on any encoder, by segmentation-models-pytorch.

Every encoder of that package, and every pyramid encoder of timm as ``tu-NAME``,
can be joined to every decoder here but DPT, which is for timm's vision transformers
alone; :mod:`unet_studio.models.encoders` lists them. Nothing is downloaded: the weights
are random until a file is read into them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from unet_studio.errors import ModelError
from unet_studio.models.encoders import default_encoder

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.models.card import ModelCard

_UNET_CHANNELS = (256, 128, 64, 32, 16)
# Pixels a side that a transformer sees as one token, where a pyramid can be made of them.
_PATCHES = (8, 16, 32)


@dataclass(frozen=True)
class Decoder:
    """How one of the package's classes is built from a card.

    Attributes
    ----------
    title : str
        Name for people.
    class_name : str
        In ``segmentation_models_pytorch``.
    depths : tuple of int
        Numbers of poolings it can take, the default first.
    stages : bool
        Its decoder has one width per pooling (``decoder_channels``).
    width : int or None
        Its decoder has one width for all (``decoder_channels``); None if it can not be chosen.
    extra_pooling : int
        By how much it pools beyond its encoder.
    dilated : int or None
        The encoder pools by this at most, and is dilated from there on.
    transformer : bool
        The encoder is a vision transformer, whose features all have one resolution.
    """

    title: str
    class_name: str
    depths: tuple[int, ...] = (5, 4, 3)
    stages: bool = False
    width: int | None = None
    extra_pooling: int = 1
    dilated: int | None = None
    transformer: bool = False
    fixed: Mapping[str, Any] = field(default_factory=dict)


DECODERS: dict[str, Decoder] = {
    "smp-unet": Decoder("U-Net", "Unet", stages=True),
    "smp-unetplusplus": Decoder("U-Net++", "UnetPlusPlus", stages=True),
    "smp-manet": Decoder("MA-Net", "MAnet", stages=True),
    "smp-linknet": Decoder("LinkNet", "Linknet"),
    "smp-fpn": Decoder("FPN", "FPN", depths=(5,)),
    "smp-pspnet": Decoder("PSPNet", "PSPNet", depths=(3, 4, 5)),
    # Its attention pools the encoder's last features three times more.
    "smp-pan": Decoder("PAN", "PAN", depths=(5,), width=32, extra_pooling=8, dilated=16),
    "smp-deeplabv3": Decoder("DeepLabV3", "DeepLabV3", depths=(5,), width=256, dilated=8),
    "smp-deeplabv3plus": Decoder(
        "DeepLabV3+", "DeepLabV3Plus", depths=(5,), width=256, dilated=16
    ),
    "smp-upernet": Decoder("UPerNet", "UPerNet", width=256),
    "smp-segformer": Decoder("SegFormer", "Segformer"),
    # Ranftl, Bochkovskiy & Koltun 2021 (arXiv:2103.13413). The last of its four
    # resolutions is a 32nd.
    "smp-dpt": Decoder("DPT", "DPT", depths=(4,), width=256, extra_pooling=2, transformer=True),
}


def build(card: ModelCard) -> nn.Module:
    """Build the network that ``card`` describes, with random weights.

    ``options`` may hold ``encoder`` (any name of
    :func:`unet_studio.models.encoders.find_encoder`), ``depth`` (poolings of the encoder)
    and ``decoder_channels`` (one number per pooling for U-Net, U-Net++ and MA-Net, one
    number for PAN, DeepLab, UPerNet and DPT).

    Raises
    ------
    ModelError
        For an unknown encoder, a depth that the decoder can not take, an encoder and a
        decoder that do not go together, or three dimensions.
    """
    import segmentation_models_pytorch as smp

    decoder = DECODERS[card.architecture]
    encoder = str(card.options.get("encoder", default_encoder(card.architecture)))
    depth = int(card.options.get("depth", decoder.depths[0]))
    _check(card, decoder, encoder, depth)
    with quiet():
        try:
            network = getattr(smp, decoder.class_name)(
                encoder_name=encoder,
                encoder_weights=None,
                encoder_depth=depth,
                in_channels=card.in_channels,
                classes=card.out_channels,
                **_decoder_options(card, decoder, depth),
            )
            if decoder.transformer:
                _check_patches(network)
        except (
            ValueError, KeyError, TypeError, AttributeError, AssertionError, NotImplementedError
        ) as error:  # fmt: skip
            reason = str(error).strip("'\"").split("\n")[0] or "they do not go together"
            raise ModelError(
                f"{decoder.title} can not be built on the encoder {encoder!r} with a depth of "
                f"{depth}: {reason}. Choose another encoder, or another architecture: smp-dpt "
                "for vision transformers, smp-unet for others."
            ) from error
    pooling = 2**depth if decoder.dilated is None else min(2**depth, decoder.dilated)
    network.stride = pooling * decoder.extra_pooling
    return cast("nn.Module", network)


def _check(card: ModelCard, decoder: Decoder, encoder: str, depth: int) -> None:
    if card.ndim != 2:
        raise ModelError(
            f"{decoder.title} on a pretrained kind of encoder is two-dimensional. For stacks, "
            "choose the architecture unet or residual-unet."
        )
    if depth not in decoder.depths:
        *others, last = map(str, sorted(decoder.depths))
        known = f"{', '.join(others)} or {last}" if others else last
        raise ModelError(
            f"{decoder.title} can not have an encoder depth of {depth}; choose {known}."
        )
    known_encoder(encoder)


def _check_patches(network: Any) -> None:
    patch = network.encoder.output_stride
    if patch not in _PATCHES:
        raise ValueError(
            f"its patches of {patch} pixels can not be made into halves and quarters of the image"
        )


def known_encoder(encoder: str) -> None:
    """Refuse an encoder that neither segmentation-models-pytorch nor timm has.

    Raises
    ------
    ModelError
    """
    import timm
    from segmentation_models_pytorch.encoders import encoders

    if encoder in encoders:
        return
    name = encoder.removeprefix("tu-")
    if encoder.startswith("tu-") and timm.is_model(name.partition(".")[0]):
        return
    advice = f"Did you mean 'tu-{name}'? " if timm.is_model(name.partition(".")[0]) else ""
    raise ModelError(
        f"There is no encoder called {encoder!r}. {advice}"
        "`unet-studio models encoders --search TEXT` lists the encoders."
    )


def _decoder_options(card: ModelCard, decoder: Decoder, depth: int) -> dict[str, Any]:
    options = dict(decoder.fixed)
    if decoder.stages:
        channels = card.options.get("decoder_channels", _UNET_CHANNELS[-depth:])
        options["decoder_channels"] = tuple(channels)
    elif decoder.width is not None:
        width = int(card.options.get("decoder_channels", decoder.width))
        options |= (
            _transformer_options(width) if decoder.transformer else {"decoder_channels": width}
        )
    if decoder.class_name == "PSPNet":
        options["upsampling"] = 2**depth
    if decoder.dilated is not None:
        options["encoder_output_stride"] = decoder.dilated
    return options


def _transformer_options(width: int) -> dict[str, Any]:
    """Return DPT's options for images of every size, without the encoder's classifier."""
    return {
        "decoder_fusion_channels": width,
        "decoder_intermediate_channels": (width, 2 * width, 4 * width, 4 * width),
        "dynamic_img_size": True,
        "num_classes": 0,
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the names that segmentation-models-pytorch would rename from warning at each use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`timm-` encoders", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens")
        yield
