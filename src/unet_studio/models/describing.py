"""What a user wants to know of a model, in words: on the command line and in the window."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from unet_studio.images.limits import readable_size
from unet_studio.images.preparation import preparation_in_words
from unet_studio.models.ledger import read_record
from unet_studio.models.partial import file_sha256
from unet_studio.models.per_axis import in_words

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.models.catalogue import CatalogueEntry
    from unet_studio.models.store import ModelEntry

_ORIGINS = {"bundled": "came with U-Net Studio", "store": "a file put into the folder"}


def describe(entry: ModelEntry) -> dict[str, str]:
    """Return what a user wants to know of a model, as words."""
    card = entry.card
    voxel = "any" if card.voxel_size is None else " × ".join(f"{v:g} µm" for v in card.voxel_size)
    method = card.default_objects
    facts = {
        "name": entry.name,
        "file": str(entry.path),
        "description": card.description,
        "finds": f"{', '.join(card.classes)} ({card.representation})",
        "input": input_in_words(card),
        "dimensions": f"{card.ndim}D",
        "architecture": f"{card.architecture} {json.dumps(card.options)}",
        "parameters": f"{card.parameters:,}",
        "normalisation": f"{card.normalisation.method} {json.dumps(card.normalisation.options)}",
        "preparation": "" if card.preparation is None else preparation_in_words(card.preparation),
        "pixel size in training": voxel,
        "patch in training": f"{in_words(card.patch)} px",
        "padding": f"to multiples of {in_words(card.stride)} px",
        "tiles": (
            f"exact with a halo of {in_words(card.halo)} px"
            if card.tile_invariant and card.halo is not None
            else "blended (the network sees the whole image at once)"
        ),
        "objects": f"{method.method} {json.dumps(method.options)}",
        "licence": card.licence,
        "authors": card.authors,
        "training data": card.training_data,
        "citation": card.citation,
        "notes": " ".join(card.notes),
    }
    return {key: value for key, value in facts.items() if value}


def describe_file(entry: ModelEntry, *, largest: int | None = None) -> dict[str, str]:
    """Return what is known of a model's file: origin, size, hash, since when.

    Parameters
    ----------
    entry : ModelEntry
    largest : int, optional
        A larger file, in bytes, is not read for its hash; the recorded one is given.
    """
    record, size = read_record(entry.path), entry.path.stat().st_size
    if largest is None or size <= largest:
        now = file_sha256(entry.path)
    else:
        now = record.sha256 if record is not None else ""
    facts = {
        "origin": _ORIGINS.get(entry.origin, ""),
        "size": readable_size(size),
        "SHA-256": now,
    }
    if record is not None:
        facts["origin"] = record.source
        facts["was"] = record.kind
        facts["here since"] = record.added
        if record.sha256 != now:
            facts["changed"] = f"yes: it was {record.sha256} when it came or was first used"
    return {key: value for key, value in facts.items() if value}


def describe_offer(entry: CatalogueEntry) -> dict[str, str]:
    """Return what is known of a model that can be fetched."""
    from unet_studio.models.fetching import address_of

    facts = {
        "name": entry.name,
        "here": "no; it can be fetched",
        "finds": entry.finds,
        "licence": entry.licence,
        "page": entry.source,
        "address": address_of(entry)[0],
        "size": f"about {readable_size(entry.size)}" if entry.size else "unknown",
        "SHA-256": entry.sha256 or (f"{entry.sha256_start}…" if entry.sha256_start else ""),
    }
    return {key: value for key, value in facts.items() if value}


def input_in_words(card: ModelCard) -> str:
    """Return what a model takes: "grey or RGB", "2 channels", "clicks"."""
    if card.clicks is not None:
        return "clicks"
    if card.colour:
        return "grey or RGB"
    count = card.in_channels
    return f"{count} channel{'s' * (count != 1)}"
