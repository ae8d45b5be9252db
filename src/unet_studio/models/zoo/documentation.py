"""The text that goes with an exported package."""

from __future__ import annotations

import json

from unet_studio.models.card import ModelCard
from unet_studio.models.networks import EMBEDDED
from unet_studio.models.per_axis import in_words
from unet_studio.models.zoo.prepared import preparation_text, takes_prepared

_FINDS = {
    "binary": "one channel: the probability of {first}",
    "classes": "one channel per class ({all}); their probabilities add up to 1",
    "objects": "three channels: whether a pixel belongs to {first}, whether it lies on the "
    "boundary between two of them, and how deep inside it lies, each from 0 to 1",
}


def documentation_of(card: ModelCard) -> str:
    """Return the package's README, Markdown."""
    finds = _FINDS[card.representation].format(
        first=f"a {card.classes[0]}", all=", ".join(card.classes)
    )
    method = card.default_objects
    options = f" with {json.dumps(method.options)}" if method.options else ""
    lines = [
        f"# {card.name}",
        "",
        card.description or f"Finds {', '.join(card.classes)}.",
        "",
        "## What goes in and comes out",
        "",
        f"{card.in_channels} channel(s), {card.ndim} spatial axes, {_lengths(card)}. "
        + (
            ""
            if takes_prepared(card)
            else "Intensities are measured on the whole image, not on tiles. "
        ),
        f"What comes out has {finds}.",
        "",
        *_preparation(card),
        *_tiles(card),
        "## Objects",
        "",
        f"U-Net Studio makes labels of these by its method `{method.method}`{options}. That step "
        "is not part of this package.",
        "",
        "## Validation",
        "",
        _scores(card),
        "",
        "## Training data",
        "",
        card.training_data or "Not stated.",
        "",
        f"Licence: {card.licence}. Authors: {card.authors or 'not stated'}. "
        f"{card.citation or ''}".rstrip(),
        "",
        "Exported by U-Net Studio. `config.unet_studio.card` in `rdf.yaml` is its model card; "
        "importing the package there gives back the same model.",
        "",
    ]
    return "\n".join(lines)


def _lengths(card: ModelCard) -> str:
    edges = card.options.get("edges") if card.architecture in EMBEDDED else None
    if not edges:
        return f"lengths that are multiples of {in_words(card.stride)} pixels"
    each = [
        str(edge) if isinstance(edge, int) else f"{edge[0]} or more in steps of {edge[1]}"
        for edge in edges
    ]
    return f"their lengths in pixels: {' × '.join(each)}"


def _preparation(card: ModelCard) -> list[str]:
    if not takes_prepared(card):
        return []
    return [
        "## Preparation",
        "",
        "**The images have to be prepared before they are given to this network.** The package's "
        "format has no words for it, so other programs do not do it by themselves; U-Net Studio "
        "does, once this package is imported there. The test image is prepared already.",
        "",
        preparation_text(card),
        "",
    ]


def _tiles(card: ModelCard) -> list[str]:
    if card.tile_invariant and card.halo is not None:
        return [
            f"Tiles reproduce the whole image if they begin at multiples of "
            f"{in_words(card.stride)} pixels and {in_words(card.halo)} pixels are cut off "
            "on inner sides.",
            "",
        ]
    return ["The network sees the whole image at once; tiles only come near to that.", ""]


def _scores(card: ModelCard) -> str:
    scores = {k: v for k, v in card.training.items() if isinstance(v, int | float | str)}
    if not scores:
        return "No scores are recorded in the model's card. Try it on images of your own first."
    return "As recorded in training: " + ", ".join(f"{k} {v}" for k, v in scores.items()) + "."
