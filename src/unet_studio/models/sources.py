"""Weight sources: where a model's weights come from.

A reference reads ``source:what``; without a source it is a name in the store
or a path. A source is a function ``(what) -> Model``; to add one, write it and
add one line to :data:`WEIGHT_SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from unet_studio.errors import ModelError
from unet_studio.models.ledger import check_use
from unet_studio.models.store import find_model
from unet_studio.registry import Registry

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model

WEIGHT_SOURCES: Registry[Callable[[str], Model]] = Registry(
    "weight source",
    {
        "file": "unet_studio.models.sources:from_file",
        "random": "unet_studio.models.sources:from_random",
        "nnunet": "unet_studio.models.nnunet.importing:from_nnunet",
        "weights": "unet_studio.models.foreign:from_weights",
    },
    entry_points="unet_studio.weight_sources",
)


def open_source(reference: str) -> Model:
    """Load the model that a reference names.

    Raises
    ------
    ModelError
    """
    source, colon, what = reference.partition(":")
    if colon and source in WEIGHT_SOURCES:
        return WEIGHT_SOURCES.load(source)(what)
    return from_file(reference)


def is_name(reference: str) -> bool:
    """Whether a reference is a name or a path, and not a source such as "random:unet"."""
    return ":" not in reference or Path(reference).exists()


def card_of(reference: str) -> ModelCard:
    """Return the card of a model; without torch if it has a file.

    Raises
    ------
    ModelError
    """
    if is_name(reference):
        return find_model(reference).card
    return open_source(reference).card


def from_file(reference: str) -> Model:
    """Load a model of the store by its name, or a model file by its path."""
    from unet_studio.models.model import model_from_file

    entry = find_model(reference)
    model = model_from_file(Path(entry.path))
    if entry.origin == "store" and (note := check_use(entry.path, model.sha256)):
        return replace(model, notes=(*model.notes, note))
    return model


def from_random(what: str) -> Model:
    """Make an untrained model.

    Parameters
    ----------
    what : str
        A preset of :data:`~unet_studio.models.presets.PRESETS` or an encoder
        ("resnet34", "efficientnet-b0"), then options as in a web address:
        ``"unet-slim?in_channels=2&representation=classes&classes=sky,cell&seed=3"``.

    Raises
    ------
    ModelError
        For an unknown preset or option.
    """
    from unet_studio.models.presets import new_model

    preset, _, query = what.partition("?")
    options: dict[str, object] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key in ("in_channels", "ndim", "seed"):
            if not value.isdigit():
                raise ModelError(f"{key} is {value!r} in {what!r}; give a whole number.")
            options[key] = int(value)
        elif key == "classes":
            options[key] = tuple(value.split(","))
        elif key == "representation":
            options[key] = value
        else:
            raise ModelError(
                f"{what!r} has an unknown option {key!r}. Known: in_channels, ndim, seed, "
                "representation, classes."
            )
    return new_model(preset, **options)  # type: ignore[arg-type]
