"""Make a model of weights alone: build the network that they are of, and write a card."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from unet_studio.errors import ModelError, RecipeError
from unet_studio.models.card import ModelCard
from unet_studio.models.foreign.containers import read_shapes, read_weights
from unet_studio.models.foreign.guess import RECOGNISERS, Guess, bare_encoder, guess_architecture
from unet_studio.models.model import Model, build_network, check_weights, filled, shapes_only
from unet_studio.models.networks import NETWORKS
from unet_studio.models.probe import probe_network
from unet_studio.recipe import Normalisation
from unet_studio.user_paths import user_path

_SHOWN = 5
# Options of networks that shapes of weights do not tell.
_NOT_IN_WEIGHTS = ("poolings",)


def convert_weights(
    path: Path | str,
    *,
    architecture: str | None = None,
    options: Mapping[str, Any] | None = None,
    name: str | None = None,
    in_channels: int | None = None,
    normalisation: Normalisation | Mapping[str, Any] | str | None = None,
    representation: str | None = None,
    classes: Sequence[str] | None = None,
    **card_fields: Any,
) -> Model:
    """Make a model of a file of weights that has no card of ours.

    Parameters
    ----------
    path : Path or str
        ``.safetensors``, or a state dict or checkpoint that torch wrote.
    architecture : str, optional
        Name in :data:`~unet_studio.models.networks.NETWORKS`; told from the weights
        where that is certain.
    options : mapping, optional
        Of the network's builder; those that are told from the weights count where
        they are not given.
    name : str, optional
        The file's stem by default.
    in_channels : int, optional
        Needed only where the architecture is given and can not be told.
    normalisation : Normalisation, mapping or str, optional
        As in a recipe, or its method's name. Weights do not tell how intensities were
        scaled; what is usual for the architecture is assumed, and noted in the card.
    representation : {"binary", "classes", "objects"}, optional
        What the outputs mean: one output is taken as foreground, more as classes.
    classes : sequence of str, optional
        Names of the classes, background first; or of the one thing found.
    **card_fields
        More fields of the :class:`~unet_studio.models.card.ModelCard`, such as
        ``output="probabilities"``, ``colour=True`` or ``licence="CC BY 4.0"``.

    Returns
    -------
    Model
        Measured, ready to run and to be saved by
        :func:`~unet_studio.models.model.save_model`.

    Raises
    ------
    ModelError
        If the file can not be opened safely, its architecture is not known, or it
        does not fit exactly; the message shows the first differences.
    """
    path = user_path(path)
    shapes = read_shapes(path).shapes
    guess = guess_architecture(shapes)
    if architecture is None:
        if guess is None:
            raise _unknown(path, shapes)
        architecture = guess.architecture
    elif architecture not in NETWORKS:
        raise ModelError(
            f"There is no architecture {architecture!r}. Known: {', '.join(NETWORKS.names())}."
        )
    if guess is None or guess.architecture != architecture:
        guess = Guess(architecture, {}, in_channels or 1, 1, int(card_fields.get("ndim", 2)))
    else:
        _check_options(guess, options or {})
    guess = dataclasses.replace(
        guess,
        options={**guess.options, **(options or {})},
        in_channels=in_channels or guess.in_channels,
    )
    fields, assumed = _fields(guess, normalisation, representation, classes)
    fields = {**fields, "name": name or path.stem, "source": path.name, **card_fields}
    card = _card(path, {**fields, "notes": tuple(assumed)})
    return assemble(card, None, path)


def _check_options(guess: Guess, options: Mapping[str, Any]) -> None:
    """Refuse what the network of weights that are recognised does not have."""
    known = {*guess.options, *_NOT_IN_WEIGHTS}
    if unknown := sorted(set(options) - known):
        raise ModelError(
            f"The architecture {guess.architecture!r} has no option {unknown[0]!r} that these "
            f"weights leave open. It has: {', '.join(sorted(known))}."
        )


def assemble(
    card: ModelCard,
    weights: dict[str, torch.Tensor] | None,
    path: Path,
    *,
    notes: Sequence[str] = (),
) -> Model:
    """Build the network of a card, load weights into it and measure it.

    Parameters
    ----------
    card : ModelCard
        What the probe measures is filled in.
    weights : dict of str to tensor, or None
        Read from ``path`` once their shapes have been found to fit, if not given.
    path : Path
        Where they come from.
    notes : sequence of str
        What was done to them on the way.

    Raises
    ------
    ModelError
        If they do not fit exactly, or are not numbers.
    """
    with shapes_only():  # they are compared before memory is taken
        network = build_network(card)
    expected = {n: tuple(v.shape) for n, v in network.state_dict().items()}
    shapes = read_shapes(path).shapes if weights is None else _shapes(weights)
    check_fit(shapes, expected, path, card.architecture)
    if weights is None:
        found = read_weights(path)
        weights, notes = found.weights, (*found.notes, *notes)
    check_weights(network, weights, str(path))
    # A copy: tensors of a file may share memory, or be views of larger ones.
    weights = {
        n: (w.float() if w.is_floating_point() else w).contiguous().clone()
        for n, w in weights.items()
    }
    network = filled(network, card, weights)
    measured = {"notes": (*card.notes, *notes), **probe_network(network, card).card_fields()}
    return Model(card.model_copy(update=measured), network, notes=(*card.notes, *notes))


def check_fit(
    found: Mapping[str, tuple[int, ...]],
    expected: Mapping[str, tuple[int, ...]],
    path: Path,
    architecture: str,
) -> None:
    """Refuse weights that are not exactly those of a network.

    Raises
    ------
    ModelError
        With a table of the first differences: name, shape in the file, shape expected.
    """
    names = [*expected, *(n for n in found if n not in expected)]
    rows = [
        (n, _words(found.get(n)), _words(expected.get(n)))
        for n in names
        if found.get(n) != expected.get(n)
    ]
    if not rows:
        return
    table = [("name", "in the file", "expected"), *rows[:_SHOWN]]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in table]
    more = len(rows) - _SHOWN
    if more > 0:
        lines.append(f"… and {more} more")
    raise ModelError(
        f"The weights in {path} do not fit the architecture {architecture!r}: {len(rows)} of "
        f"{len(names)} differ.\n" + "\n".join(lines) + "\nGive the architecture and options that "
        "they were made with (--set architecture=NAME, --set OPTION=VALUE). Nothing was loaded in "
        "part."
    )


def _fields(
    guess: Guess,
    normalisation: Normalisation | Mapping[str, Any] | str | None,
    representation: str | None,
    classes: Sequence[str] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return fields of the card, and what had to be assumed for them."""
    assumed: list[str] = []
    fields: dict[str, Any] = {
        "architecture": guess.architecture,
        "options": guess.options,
        "in_channels": guess.in_channels,
        "ndim": guess.ndim,
        "colour": guess.colour,
        **guess.card,
    }
    if normalisation is not None:
        fields["normalisation"] = _normalisation(normalisation)
    elif "normalisation" not in fields:
        fields["normalisation"] = guess.normalisation
        assumed.append(
            f"Assumed: intensities are scaled by {_described(guess.normalisation)}, as is usual "
            f"for {guess.usual}. Weights do not tell; correct it with --set normalisation=…"
        )
    if guess.card:
        assumed.append(
            f"Assumed: the weights are run as those that the architecture "
            f"{guess.architecture!r} is known by, with their preparation of whole images."
        )
    if guess.colour:
        assumed.append("Assumed: the three input channels are red, green and blue.")
    outputs = guess.out_channels
    if representation is None and "representation" not in fields:
        representation = "binary" if outputs == 1 else "classes"
        meaning = "one foreground" if outputs == 1 else f"{outputs} classes, the first background"
        assumed.append(
            f"Assumed: the outputs are {meaning}; see --set representation=…, --set classes=…"
        )
    if representation is not None:
        fields["representation"] = representation
    if classes is not None:
        fields["classes"] = tuple(classes)
    elif fields["representation"] == "classes" and "classes" not in fields:
        fields["classes"] = ("background", *(f"class {i}" for i in range(1, max(outputs, 2))))
    return fields, assumed


def parse_normalisation(text: str) -> Normalisation:
    """Read a normalisation as it is typed: ``fixed:mean=0;std=255``, or only ``zscore``.

    Options are separated by semicolons, values per channel by commas.

    Raises
    ------
    RecipeError
        If it does not exist, or an option is wrong.
    """
    from unet_studio.images.normalisers import check_normalisation

    method, _, rest = text.partition(":")
    options: dict[str, Any] = {}
    for part in filter(None, rest.split(";")):
        key, equals, value = part.partition("=")
        try:
            numbers = [float(v) for v in value.split(",")]
        except ValueError:
            numbers = []
        if not equals or not numbers:
            raise RecipeError(
                f"The normalisation {text!r} can not be read; write it like zscore, "
                "percentile:low=1;high=99 or fixed:mean=0;std=255."
            )
        several = len(numbers) > 1 or key.strip() in ("mean", "std")
        options[key.strip()] = numbers if several else numbers[0]
    normalisation = Normalisation(method=method.strip(), options=options)
    check_normalisation(normalisation)
    return normalisation


def _normalisation(value: Normalisation | Mapping[str, Any] | str) -> Normalisation:
    if isinstance(value, str):
        return parse_normalisation(value)
    return value if isinstance(value, Normalisation) else Normalisation.model_validate(value)


def _described(normalisation: Normalisation) -> str:
    options = ", ".join(f"{key} {value}" for key, value in normalisation.options.items())
    return f"{normalisation.method!r}" + (f" ({options})" if options else "")


def _card(path: Path, fields: dict[str, Any]) -> ModelCard:
    try:
        return ModelCard.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "they"
        raise ModelError(
            f"No model can be made of {path} with these options: {place}: {first['msg']}. Correct "
            "them."
        ) from None


def _unknown(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> ModelError:
    first = ", ".join(list(shapes)[:_SHOWN])
    if encoder := bare_encoder(shapes):
        return ModelError(
            f"The {len(shapes)} weights in {path} are those of an encoder alone ({encoder}), not "
            "of a whole network. Make a model with it, to be trained: `unet-studio models new "
            f"NAME --encoder ENCODER --weights {path}`, or New model in the window with these "
            "weights from a file. `unet-studio models encoders --search TEXT` lists the encoders."
        )
    return ModelError(
        f"Which network the {len(shapes)} weights in {path} are of can not be told (they begin "
        f"with {first}). What is recognised: {', '.join(RECOGNISERS.names())}. If it is another "
        f"form of one of these, give --set architecture=NAME ({', '.join(NETWORKS.names())}) and "
        "its options with --set OPTION=VALUE; an architecture of your own can be registered "
        "(unet_studio.networks)."
    )


def _shapes(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _words(shape: tuple[int, ...] | None) -> str:
    if shape is None:
        return "–"
    return " × ".join(map(str, shape)) or "one number"
