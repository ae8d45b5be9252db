"""Weights that others saved: opened safely, recognised, and made into models of ours.

What an importer of model files needs is here; torch is imported on first use.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ModelError
from unet_studio.models.importing import Importer, ImportRequest
from unet_studio.user_paths import user_path

if TYPE_CHECKING:
    from unet_studio.models.model import Model

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
# Choices of ``--set`` that are words; lists are separated by commas. Others are JSON, and
# those that the card does not know are options of the network.
_WORDS = ("architecture", "normalisation", "representation", "output", "licence", "authors",
          "citation", "training_data", "description")  # fmt: skip
_LISTS = ("classes",)
_OF_THE_CARD = ("in_channels", "ndim", "colour", "voxel_size", "patch", "flips")


def recognises(path: Path) -> bool:
    """Whether a path is for this importer: a file of a suffix that weights have.

    What is in it is looked at by :func:`open_weights`, which can say what is wrong.
    """
    return path.is_file() and path.suffix.lower() in SUFFIXES


def open_weights(path: Path, options: Mapping[str, Any] | None = None) -> Model:
    """Open a model file of ours, or make a model of the weights of others.

    Parameters
    ----------
    path : Path
    options : mapping, optional
        Keyword arguments of :func:`unet_studio.models.foreign.convert.convert_weights`.

    Raises
    ------
    ModelError
        With a message that says what to do.
    """
    from unet_studio.models.brain_mri import brain_mri_model, is_released
    from unet_studio.models.files import read_header
    from unet_studio.models.foreign.containers import kind_of
    from unet_studio.models.foreign.convert import convert_weights
    from unet_studio.models.model import model_from_file

    if kind_of(path) == "safetensors" and "unet_studio_card" in read_header(path)[1]:
        return model_from_file(path)
    if not options and is_released(path):
        return brain_mri_model(path)
    return convert_weights(path, **(options or {}))


def from_weights(what: str) -> Model:
    """Load a model of a weight file, as the source ``weights:PATH`` of a model reference.

    Raises
    ------
    ModelError
    """
    return open_weights(user_path(what))


def save_imported(model: Model, request: ImportRequest) -> tuple[str, ...]:
    """Write what an importer made as a model of the store; return its notes.

    Raises
    ------
    OutputError
    """
    from unet_studio.models.model import save_model

    request.token.raise_if_cancelled()
    card = model.card.model_copy(update={"name": request.name})
    save_model(replace(model, card=card), request.target)
    return (f"Recognised: {card.architecture}, {card.parameters:,} parameters.", *model.notes)


def parse_choices(choices: Mapping[str, str]) -> dict[str, Any]:
    """Return what ``--set KEY=VALUE`` means to ``convert_weights``.

    Parameters
    ----------
    choices : mapping of str to str
        ``architecture``, ``normalisation`` (such as ``fixed:mean=0;std=255``),
        ``representation``, ``classes`` (separated by commas) and other fields of the
        card; everything else is an option of the network, as JSON.

    Raises
    ------
    ModelError
        If a value can not be read.
    """
    fields: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for key, text in choices.items():
        if key in _WORDS:
            fields[key] = text
        elif key in _LISTS:
            fields[key] = tuple(part.strip() for part in text.split(","))
        elif key in _OF_THE_CARD:
            fields[key] = _value(key, text)
        else:
            _check_spelling(key)
            options[key] = _value(key, text)
    return {**fields, "options": options} if options else fields


def _check_spelling(key: str) -> None:
    known = (*_WORDS, *_LISTS, *_OF_THE_CARD)
    if close := difflib.get_close_matches(key, known, 1, 0.75):
        raise ModelError(f"--set {key}=… is not known. Was {close[0]}=… meant?")


def _value(key: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if text and text[0] not in '[{"' and not text[0].isdigit():
            return text  # a word, such as the name of an encoder
        raise ModelError(
            f"--set {key}={text} can not be read: {key} is a number, true or false, a word, or a "
            "list such as [16,32,64]."
        ) from None


def import_weights(request: ImportRequest) -> tuple[str, ...]:
    """Write the model file of weights; return notes for the user. Raises ModelError."""
    return save_imported(open_weights(request.source, parse_choices(request.options)), request)


IMPORTER = Importer("weights that PyTorch saved", SUFFIXES, recognises, import_weights)
