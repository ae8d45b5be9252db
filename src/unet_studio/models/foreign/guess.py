"""Tell the architecture from the names and shapes of its weights, where that is certain.

A recogniser looks for the names that only its architecture has, and reads every
number off the shapes. Whether all the others fit, too, is checked afterwards on the
network itself. To add one, write a function and name it in :data:`RECOGNISERS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_studio.recipe import Normalisation
from unet_studio.registry import Registry

Shapes = Mapping[str, tuple[int, ...]]

# Per channel, of images of 0 to 255 (ImageNet's, as torchvision documents them).
_IMAGENET = Normalisation(
    method="fixed",
    options={"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]},
)
_BY_255 = Normalisation(method="fixed", options={"mean": [0.0], "std": [255.0]})


@dataclass(frozen=True)
class Guess:
    """What the names and shapes of weights say.

    Attributes
    ----------
    architecture : str
        Name in :data:`~unet_studio.models.networks.NETWORKS`.
    options : dict
        Of its builder.
    in_channels, out_channels, ndim : int
    colour : bool
        Whether networks of this kind usually see red, green and blue.
    normalisation : Normalisation
        What is usual for networks of this kind.
    usual : str
        For whom that normalisation is usual, in words.
    card : dict
        More fields of the card, where the weights are those of one known model.
    """

    architecture: str
    options: dict[str, Any]
    in_channels: int
    out_channels: int
    ndim: int = 2
    colour: bool = False
    normalisation: Normalisation = field(default_factory=Normalisation)
    usual: str = "models of U-Net Studio"
    card: dict[str, Any] = field(default_factory=dict)


Recogniser = Callable[[Shapes], Guess | None]


def guess_architecture(shapes: Shapes) -> Guess | None:
    """Return what is known of weights, or None if nothing is certain.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of a bare network, prefixes taken off.
    """
    for name in RECOGNISERS.names():
        try:
            guess = RECOGNISERS.load(name)(shapes)
        except (KeyError, IndexError, ValueError):
            continue  # some names of it, but not all: another architecture
        if guess is not None:
            return guess
    return None


def plain_unet(shapes: Shapes) -> Guess | None:
    """Recognise the plain U-Net of this package: ``down.0.0.weight`` … ``head.weight``."""
    if not {"down.0.0.weight", "up.0.up.weight", "head.weight"} <= set(shapes):
        return None
    levels = count(shapes, r"down\.(\d+)\.0\.weight")
    first, head = shapes["down.0.0.weight"], shapes["head.weight"]
    widths = [shapes[f"down.{level}.0.weight"][0] for level in range(levels)]
    return Guess("unet", {"widths": widths}, first[1], head[0], len(first) - 2)


def hub_unet(shapes: Shapes) -> Guess | None:
    """Recognise the torch.hub U-Net for brain MRI by ``encoder1.enc1conv1.weight``."""
    if "encoder1.enc1conv1.weight" not in shapes:
        return None
    first = shapes["encoder1.enc1conv1.weight"]
    features, classes = first[0], shapes["conv.weight"][0]
    known: dict[str, Any] = {}
    if (first[1], features, classes) == (3, 32, 1):
        from unet_studio.models.brain_mri import card

        # How the authors' weights are run. Whose these are, the shapes do not tell.
        how = {"representation", "classes", "normalisation", "preparation", "objects"}
        known = card().model_dump(include=how)
    return Guess("hub-unet", {"features": features}, first[1], classes, card=known)


def milesial_unet(shapes: Shapes) -> Guess | None:
    """Recognise the layout of milesial/Pytorch-UNet by ``inc.double_conv.0.weight``."""
    if not {"inc.double_conv.0.weight", "outc.conv.weight"} <= set(shapes):
        return None
    depth = count(shapes, r"down(\d+)\.maxpool_conv\.1\.double_conv\.0\.weight", start=1)
    first = shapes["inc.double_conv.0.weight"]
    downs = [f"down{i}.maxpool_conv.1.double_conv.3.weight" for i in range(1, depth + 1)]
    ups = [f"up{i}.conv.double_conv" for i in range(1, depth + 1)]
    options = {
        "widths": [first[0], *(shapes[name][0] for name in downs)],
        "ups": [[shapes[f"{n}.0.weight"][0], shapes[f"{n}.3.weight"][0]] for n in ups],
        "bilinear": "up1.up.weight" not in shapes,
        "bias": "inc.double_conv.0.bias" in shapes,
    }
    return Guess(
        "milesial-unet",
        options,
        first[1],
        shapes["outc.conv.weight"][0],
        colour=first[1] == 3,
        normalisation=_BY_255,
        usual="this layout (grey values of 0 to 255, divided by 255)",
    )


def smp_unet(shapes: Shapes) -> Guess | None:
    """Recognise ``Unet`` of segmentation-models-pytorch on a ResNet or EfficientNet."""
    if not {"decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight"} <= set(shapes):
        return None
    encoder, stem = _encoder(shapes)
    if encoder is None:
        return None
    depth = count(shapes, r"decoder\.blocks\.(\d+)\.conv2\.0\.weight")
    channels = [shapes[f"decoder.blocks.{i}.conv2.0.weight"][0] for i in range(depth)]
    inputs = shapes[stem][1]
    return Guess(
        "smp-unet",
        {"encoder": encoder, "depth": depth, "decoder_channels": channels},
        inputs,
        shapes["segmentation_head.0.weight"][0],
        colour=inputs == 3,
        normalisation=_IMAGENET if inputs == 3 else Normalisation(method="zscore"),
        usual="encoders pretrained on ImageNet (8-bit colours, its means and deviations)"
        if inputs == 3
        else "networks of this kind",
    )


def zoo_unet2d(shapes: Shapes) -> Guess | None:
    """Recognise the U-Net of the BioImage Model Zoo's example ``unet2d_nuclei_broad``."""
    if not {"encoders.0.0.weight", "base.0.weight", "output.weight"} <= set(shapes):
        return None
    levels = count(shapes, r"encoders\.(\d+)\.0\.weight")
    first = shapes["encoders.0.0.weight"]
    if len(first) != 4:
        return None
    names = [*(f"encoders.{level}.0.weight" for level in range(levels)), "base.0.weight"]
    return Guess(
        "zoo-unet2d",
        {"widths": [shapes[name][0] for name in names]},
        first[1],
        shapes["output.weight"][0],
        normalisation=Normalisation(method="zscore"),
        usual="this layout (zero mean and unit deviation of each image)",
    )


# Blocks of each group, and whether they are bottlenecks (He et al. 2016, arXiv:1512.03385).
_RESNETS: dict[tuple[tuple[int, ...], bool], str] = {
    ((2, 2, 2, 2), False): "resnet18",
    ((3, 4, 6, 3), False): "resnet34",
    ((3, 4, 6, 3), True): "resnet50",
    ((3, 4, 23, 3), True): "resnet101",
    ((3, 8, 36, 3), True): "resnet152",
}
# Blocks in all and channels of the stem (Tan & Le 2019, arXiv:1905.11946, with the
# multipliers of its reference implementation).
_EFFICIENTNETS: dict[tuple[int, ...], str] = {
    (16, 32): "efficientnet-b0",
    (23, 32): "efficientnet-b1",
    (23, 32, 1408): "efficientnet-b2",
    (26, 40): "efficientnet-b3",
    (32, 48): "efficientnet-b4",
    (39, 48): "efficientnet-b5",
    (45, 56): "efficientnet-b6",
    (55, 64): "efficientnet-b7",
}


def _encoder(shapes: Shapes) -> tuple[str | None, str]:
    """Return the encoder's name, and the name of its first convolution's weights."""
    if "encoder._conv_stem.weight" in shapes:
        stem = "encoder._conv_stem.weight"
        key = (count(shapes, r"encoder\._blocks\.(\d+)\.[^.]+\.weight"), shapes[stem][0])
        head = shapes["encoder._conv_head.weight"][0]
        return _EFFICIENTNETS.get((*key, head), _EFFICIENTNETS.get(key)), stem
    if "encoder.layer1.0.conv1.weight" in shapes:
        groups = tuple(
            count(shapes, rf"encoder\.layer{group}\.(\d+)\.conv1\.weight") for group in range(1, 5)
        )
        bottleneck = "encoder.layer1.0.conv3.weight" in shapes
        return _RESNETS.get((groups, bottleneck)), "encoder.conv1.weight"
    return None, ""


# The first layer of the families of encoders, and a layer that only they have.
_STEMS = {
    "a ResNet or one of its relatives": (r"conv1\.(0\.)?weight", r"layer4\.0\.conv1\.weight"),
    "an EfficientNet or MobileNet of timm": (r"conv_stem\.weight", r"blocks\.0\.0\..*"),
    "an EfficientNet": (r"_conv_stem\.weight", r"_blocks\.0\..*"),
    "a ConvNeXt or RegNet of timm": (r"stem(\.0|\.conv|_0)\.?.*weight", r"(stages[._]0|s1)\..*"),
    "a DenseNet or VGG": (r"features\.(conv)?0\.weight", r"features\..*"),
}
# Whole segmentation networks have such layers as well.
_NOT_ALONE = re.compile(r"(module\.|model\.)*(enc|dec|seg|up|out|final|bottleneck|center|bridge)")


def bare_encoder(shapes: Shapes) -> str:
    """Return the family of weights that are those of an encoder and nothing else, or ""."""
    if any(_NOT_ALONE.match(name) for name in shapes):
        return ""
    for family, patterns in _STEMS.items():
        if all(any(re.fullmatch(p, name) for name in shapes) for p in patterns):
            return family
    return ""


def count(shapes: Shapes, pattern: str, start: int = 0) -> int:
    """Return how many names there are that differ in a number alone: without gaps.

    Raises
    ------
    ValueError
        If a number is missing.
    """
    found = {int(m[1]) for name in shapes if (m := re.fullmatch(pattern, name))}
    if found != set(range(start, start + len(found))) or not found:
        raise ValueError(pattern)
    return len(found)


RECOGNISERS: Registry[Recogniser] = Registry(
    "recogniser of weights",
    {
        "unet": "unet_studio.models.foreign.guess:plain_unet",
        "hub-unet": "unet_studio.models.foreign.guess:hub_unet",
        "milesial-unet": "unet_studio.models.foreign.guess:milesial_unet",
        "smp-unet": "unet_studio.models.foreign.guess:smp_unet",
        "zoo-unet2d": "unet_studio.models.foreign.guess:zoo_unet2d",
    },
    entry_points="unet_studio.recognisers",
)
