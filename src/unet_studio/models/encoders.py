"""Which encoders there are, with their sizes and weights. No torch here.

The numbers are measured (``training/make_encoder_table.py``) and kept in
``encoders.json``, so that a choice can be shown before anything heavy is imported.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from unet_studio.errors import ModelError

RANDOM = "random"
_DEFAULT = "resnet34"
_DEFAULTS = {"smp-dpt": "tu-vit_small_patch16_224"}
_TABLE = Path(__file__).with_name("encoders.json")
# The published networks first: what most users look for.
_FIRST = (
    "ResNet", "EfficientNet", "ResNeXt", "MobileNet", "DenseNet", "VGG", "MiT", "SE-Net",
    "Inception", "Xception", "DPN", "SK-Net", "MobileOne",
)  # fmt: skip
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True)
class EncoderWeights:
    """Trained weights of an encoder.

    Attributes
    ----------
    tag : str
        "imagenet", "advprop", "noisy-student", … or timm's name ("a1_in1k").
    repository, revision : str
        Where the file ``model.safetensors`` lies on the Hugging Face Hub.
    licence : str
        Of these weights, as stated where they come from.
    mean, std : tuple of float
        Of red, green and blue in its training images, in units of their full range.
    """

    tag: str
    repository: str
    revision: str
    licence: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Encoder:
    """An encoder, as measured with three input channels.

    Attributes
    ----------
    name : str
        As in a card's options; ``tu-…`` are timm's.
    family : str
    parameters : int
        Of the encoder alone.
    bytes_per_pixel : float
        Peak memory of activations per input pixel, fp32, under a U-Net decoder (a vision
        transformer: DPT's).
    networks : dict of str to int
        Parameters of the whole network, for each architecture that was measured.
    weights : tuple of EncoderWeights
    """

    name: str
    family: str
    parameters: int
    bytes_per_pixel: float
    networks: dict[str, int]
    weights: tuple[EncoderWeights, ...]

    def fits(self, architecture: str) -> bool:
        """Whether a network can be made of it.

        What was measured and failed is known; timm's encoders were measured under one
        decoder, and go with every other one of that kind.
        """
        if architecture in self.networks:
            return True
        pyramid = "smp-unet" in self.networks
        return pyramid and self.name.startswith("tu-") and architecture not in _DEFAULTS

    def find_weights(self, tag: str) -> EncoderWeights:
        """Return the weights of a tag; "imagenet" stands for the first if it is none's.

        Raises
        ------
        ModelError
            Naming those that there are.
        """
        for weights in self.weights:
            if weights.tag == tag:
                return weights
        if tag == "imagenet" and self.weights:
            return self.weights[0]
        known = ", ".join([RANDOM, *(w.tag for w in self.weights)])
        raise ModelError(
            f"There are no weights {tag!r} for the encoder {self.name}. Known: {known}; or give "
            "the path of a file with its weights."
        )


@dataclass(frozen=True)
class Size:
    """How large a network is.

    Attributes
    ----------
    parameters : int
    bytes_per_pixel : float
        Peak memory of activations per input pixel or voxel, fp32.
    """

    parameters: int
    bytes_per_pixel: float


def default_encoder(architecture: str) -> str:
    """Return the encoder of an architecture where none is named."""
    return _DEFAULTS.get(architecture, _DEFAULT)


@cache
def _read_table() -> Any:
    return json.loads(_TABLE.read_text(encoding="utf-8"))


def preset_size(preset: str, ndim: int) -> Size | None:
    """Return the size of a network without an encoder to choose; None if not measured.

    Parameters
    ----------
    preset : str
        A name in :data:`~unet_studio.models.choices.PRESETS`.
    ndim : {2, 3}
    """
    found = _read_table()["presets"].get(preset, {}).get(str(ndim))
    return None if found is None else Size(int(found[0]), float(found[1]))


@cache
def list_encoders() -> tuple[Encoder, ...]:
    """Return every encoder of the table: those of segmentation-models-pytorch first."""
    encoders = []
    for row in _read_table()["encoders"]:
        entry = dict(row)
        weights = tuple(
            EncoderWeights(
                tag,
                value["repository"],
                value["revision"],
                value["licence"],
                tuple(value["mean"]),
                tuple(value["std"]),
            )
            for tag, value in entry.pop("weights").items()
        )
        encoders.append(Encoder(**entry, weights=weights))
    return tuple(encoders)


def families(architecture: str = "") -> tuple[str, ...]:
    """Return the families of encoders (for an architecture), the best known first."""
    names = {e.family for e in list_encoders() if not architecture or e.fits(architecture)}
    first = [name for name in _FIRST if name in names]
    return (*first, *sorted(names.difference(first)))


def search_encoders(text: str = "", family: str = "") -> tuple[Encoder, ...]:
    """Return the encoders whose name holds every word of ``text``, in natural order.

    Parameters
    ----------
    text : str
        Words; upper and lower case are the same.
    family : str
        As in :func:`families`, or the beginning of one; empty for all.
    """
    words = text.lower().split()
    found = [
        encoder
        for encoder in list_encoders()
        if all(word in encoder.name.lower() for word in words)
        and encoder.family.lower().startswith(family.lower())
    ]
    return tuple(sorted(found, key=lambda e: (e.name.startswith("tu-"), _natural(e.name))))


def find_encoder(name: str) -> Encoder:
    """Return an encoder of the table by its name, with or without timm's tag.

    Raises
    ------
    ModelError
        If it is not there.
    """
    base = name.partition(".")[0] if name.startswith("tu-") else name
    for encoder in list_encoders():
        if encoder.name == base:
            return encoder
    like = [e.name for e in search_encoders(base.removeprefix("tu-"))][:5]
    advice = f"Did you mean {', '.join(like)}? " if like else ""
    raise ModelError(
        f"There is no encoder called {name!r} in the table. {advice}"
        "`unet-studio models encoders --search TEXT` lists the encoders."
    )


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Sort numbers by value, so that resnet152 comes after resnet34."""
    parts = _NUMBER.split(name)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
