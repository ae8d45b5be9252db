"""Choose among the weights of a package, and make a network of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from unet_studio.errors import ConsentNeeded, ModelError, cannot_read
from unet_studio.images.atomic import scratch_folder
from unet_studio.models.card import ModelCard
from unet_studio.models.consent import HOW, RISK, has_consent, record_consent
from unet_studio.models.download import download
from unet_studio.models.model import build_network, check_weights, filled, shapes_only
from unet_studio.models.networks import CONTENT, EMBEDDED
from unet_studio.models.networks.embedded import embed
from unet_studio.models.networks.onnx import parameter_count
from unet_studio.models.store import home_folder
from unet_studio.models.zoo.advice import MENDED
from unet_studio.models.zoo.description import Description, WeightsEntry
from unet_studio.models.zoo.package import LARGEST_FILE, Contents
from unet_studio.models.zoo.state_dict import read_state_dict, recognise
from unet_studio.models.zoo.tensors import Size, Tensor

ORDER = ("pytorch_state_dict", "onnx", "torchscript")
OTHERS = {
    "keras_hdf5": "Keras", "keras_v3": "Keras", "tensorflow_js": "TensorFlow.js",
    "tensorflow_saved_model_bundle": "TensorFlow",
}  # fmt: skip
_STRIDE = {2: 16, 3: 8}
_UNLIMITED = 2**31 - 1


@dataclass(frozen=True)
class Choice:
    """What the user wants of a package.

    Attributes
    ----------
    weights : str or None
        One of :data:`ORDER`; None takes the first that can be run.
    state_dict : Path or None
        A file to use in the place of the state dict that the description names.
    allow_torchscript : bool
        The user has read :data:`~unet_studio.models.consent.RISK` and agrees.
    download : bool
        Fetch weights that the description names by a web address.
    channel : int or None
        The output channel that is taken.
    """

    weights: str | None = None
    state_dict: Path | None = None
    allow_torchscript: bool = False
    download: bool = False
    channel: int | None = None


@dataclass(frozen=True)
class Loaded:
    """A network with its card, in the format that was chosen."""

    card: ModelCard
    network: nn.Module
    format: str
    notes: tuple[str, ...]


class _Unsuitable(Exception):
    """Why weights of one format can not be used; another format may do."""


class _NotAllowed(_Unsuitable):
    """They are a program, and the user has not agreed to run it."""


def loadable_weights(
    contents: Contents, description: Description, card: ModelCard, choice: Choice
) -> Iterator[Loaded]:
    """Yield a network of each of a package's weights that can be run, the preferred first.

    The next one is only read if it is asked for.

    Parameters
    ----------
    contents : Contents
    description : Description
    card : ModelCard
        Complete but for architecture, options and what belongs to them.
    choice : Choice

    Raises
    ------
    ConsentNeeded
        If none can without the user's consent; the message says why of each.
    ModelError
        If none can at all, or one is damaged.
    """
    makers: dict[str, Callable[..., Loaded]] = {
        "pytorch_state_dict": _from_state_dict,
        "onnx": _from_onnx,
        "torchscript": _from_torchscript,
    }
    reasons: list[str] = []
    found = blocked = False
    for name in _formats(choice):
        entry = description.weights.get(name)
        if entry is None:
            continue
        try:
            loaded = makers[name](contents, description, card, entry, choice)
        except _Unsuitable as reason:
            blocked = blocked or isinstance(reason, _NotAllowed)
            reasons.append(f"{name}: {reason}")
            continue
        found = True
        passed_over = tuple(f"Weights not used: {reason}." for reason in reasons)
        yield replace(loaded, notes=(*passed_over, *loaded.notes))
    if found:
        return
    reasons += [
        f"{name}: {OTHERS[name]} is not supported"
        for name in description.weights
        if name in OTHERS
    ]
    there = "; ".join(reasons) or f"it has {', '.join(description.weights) or 'none'}"
    raise (ConsentNeeded if blocked else ModelError)(
        f"{contents.where} has no weights that can be run here ({there}). Ask its makers for ONNX."
    )


def _formats(choice: Choice) -> Sequence[str]:
    if choice.state_dict is not None:
        return ("pytorch_state_dict",)
    if choice.weights is None:
        return ORDER
    if choice.weights not in ORDER:
        known = ", ".join(ORDER)
        raise ModelError(f"Weights {choice.weights!r} can not be run. Choose among {known}.")
    return (choice.weights,)


def _content(contents: Contents, entry: WeightsEntry, choice: Choice) -> bytes:
    if contents.has(entry.source):
        return contents.read(entry.source, entry.sha256)
    if "://" in entry.source:
        if choice.download:
            return _fetched(entry)
        raise _Unsuitable(
            f"they are not in the package, but at {entry.source}; nothing is downloaded unasked "
            "(--set download=yes does)"
        )
    raise _Unsuitable(f"{entry.source!r} is listed but is not in the package")


def _fetched(entry: WeightsEntry) -> bytes:
    """Download weights to where downloads go; private addresses are refused there."""
    with scratch_folder(home_folder() / "downloads" / "weights") as folder:
        target = download(
            entry.source, folder / "weights", sha256=entry.sha256, size_limit=LARGEST_FILE
        )
        return target.read_bytes()


def _from_state_dict(
    contents: Contents,
    description: Description,
    card: ModelCard,
    entry: WeightsEntry,
    choice: Choice,
) -> Loaded:
    notes: list[str] = []
    if choice.state_dict is not None:
        where = str(choice.state_dict)
        try:
            content = choice.state_dict.read_bytes()
        except OSError as error:
            raise cannot_read(where, error) from None
        notes.append(f"The weights are those of {choice.state_dict.name}, not of the package.")
    else:
        where = f"{entry.source} in {contents.where}"
        content = _content(contents, entry, choice)
    weights, more = read_state_dict(content, where)
    notes += more
    own = own_card(description)
    if own is not None:
        card = own
    else:
        known = recognise(weights)
        if known is None:
            raise _Unsuitable(
                f"the network {_architecture(entry)} is not one that is known here, and code of a "
                "package is never run"
            )
        card, channel_notes = _recognised(card, *known, weights, choice)
        notes += channel_notes
        notes.append(
            f"The network is {card.architecture!r} of U-Net Studio; {_architecture(entry)} of the "
            "package was not run."
        )
    try:
        with shapes_only():
            network = build_network(card)
        check_weights(network, weights, where)
    except ModelError as error:
        if own is not None:
            raise
        raise _Unsuitable(f"they look like {card.architecture!r} but are not. {error}") from None
    card = card.model_copy(update={"stride": getattr(network, "stride", card.stride)})
    weights = {n: w.float() if w.is_floating_point() else w for n, w in weights.items()}
    return Loaded(card, filled(network, card, weights), "pytorch_state_dict", tuple(notes))


def own_card(description: Description) -> ModelCard | None:
    """Return the card that U-Net Studio has written into a package, if it fits it."""
    ours = description.config.get("unet_studio")
    if not isinstance(ours, dict) or not isinstance(ours.get("card"), dict):
        return None
    try:
        card = ModelCard.model_validate(ours["card"])
    except ValidationError:
        return None
    described = (
        description.input.channels, description.output.channels, len(description.input.spatial),
    )  # fmt: skip
    returned = card.out_channels
    if card.architecture in EMBEDDED and "channel" in card.options:
        returned = description.output.channels  # the one that is taken is among them
    return card if described == (card.in_channels, returned, card.ndim) else None


def _recognised(
    card: ModelCard,
    architecture: str,
    arguments: dict[str, Any],
    weights: dict[str, torch.Tensor],
    choice: Choice,
) -> tuple[ModelCard, list[str]]:
    """Complete a card; of several independent channels, keep the head of one."""
    if arguments["in_channels"] != card.in_channels:
        raise ModelError(
            f"The weights take {arguments['in_channels']} channels, the description says "
            f"{card.in_channels}. The package does not fit together. {MENDED}"
        )
    notes = []
    several = arguments["out_channels"] != card.out_channels and card.out_channels == 1
    if several and "output.weight" not in weights:
        raise _Unsuitable(
            "only one of its channels is taken, and its last layer is not known here"
        )
    if several:
        kept = slice(choice.channel or 0, (choice.channel or 0) + 1)
        for name in ("output.weight", "output.bias"):
            weights[name] = weights[name][kept].clone()
        notes.append("Of the last layer only the channel that is taken was kept.")
    options = {**arguments["options"]}
    return card.model_copy(update={"architecture": architecture, "options": options}), notes


def _architecture(entry: WeightsEntry) -> str:
    named = entry.architecture
    if isinstance(named, dict):
        where = named.get("source") or named.get("import_from") or ""
        return f"{named.get('callable', 'unnamed')!r} ({where})"
    return repr(str(named)) if named else "unnamed"


def _from_onnx(
    contents: Contents,
    description: Description,
    card: ModelCard,
    entry: WeightsEntry,
    choice: Choice,
) -> Loaded:
    if entry.external_data is not None:
        raise _Unsuitable("its weights are in a second file, which is not supported")
    program = _content(contents, entry, choice)
    card = _embedded(card, "onnx", program, description, choice)
    parameters = parameter_count(program, card.name)
    return _program(card.model_copy(update={"parameters": parameters}), program, "onnx")


def _from_torchscript(
    contents: Contents,
    description: Description,
    card: ModelCard,
    entry: WeightsEntry,
    choice: Choice,
) -> Loaded:
    program = _content(contents, entry, choice)
    if choice.allow_torchscript:
        record_consent(program, card.name)
    elif not has_consent(program):
        raise _NotAllowed(f"they are TorchScript. {RISK} To allow it, import with {HOW}")
    card = _embedded(card, "torchscript", program, description, choice)
    return _program(card, program, "torchscript")


def _program(card: ModelCard, program: bytes, name: str) -> Loaded:
    network: Any = build_network(card)
    content = torch.frombuffer(bytearray(program), dtype=torch.uint8)
    network.load_state_dict({CONTENT: content}, assign=True)
    network.eval().requires_grad_(False)
    network.ready()
    return Loaded(card, network, name, ())


def _embedded(
    card: ModelCard, architecture: str, program: bytes, description: Description, choice: Choice
) -> ModelCard:
    """Describe a program: its axes, the shapes it takes, and what tiles it needs therefore."""
    if card.architecture == architecture and own_card(description) is not None:
        return embed(card, program)  # it came from us, and was measured then
    sizes = [axis.size for axis in description.input.spatial]
    options: dict[str, Any] = {
        "edges": [list(s) if isinstance(s, tuple) else s for s in sizes],
        "axes": description.input.letters,
        "output_axes": description.output.letters,
    }
    if card.out_channels != description.output.channels:
        options["channel"] = choice.channel or 0
    fixed = [s for s in sizes if isinstance(s, int)]
    update = {
        "architecture": architecture,
        "options": options,
        "stride": stride_of(sizes, card.ndim),
        "tile_limit": tuple(s if isinstance(s, int) else _UNLIMITED for s in sizes)
        if fixed
        else None,
    }
    return embed(card.model_copy(update=update), program)


def stride_of(sizes: Sequence[Size | None], ndim: int) -> int:
    """Return a multiple of a program's poolings, as far as its shapes tell.

    Poolings halve, so their product is a power of two that divides every length that is
    taken. A program of fixed shape is taken to pool by no more than 16 (8 in 3D); whether
    tiles at multiples of that are exact is measured.
    """
    strides = []
    for size in sizes:
        if isinstance(size, tuple) and size[1] > 1:
            strides.append(size[1])
        elif isinstance(size, int) and size > 1:
            strides.append(min(size & -size, _STRIDE[ndim]))
        else:
            strides.append(1 if size == 1 else _STRIDE[ndim])
    return max(strides)


def spatial_patch(tensor: Tensor, ndim: int) -> int:
    """Return the edge of a tile that suits a model: what it was made for, if it says."""
    preferred = 256 if ndim == 2 else 64
    edges = [s if isinstance(s, int) else max(s[0], preferred)
             for s in (a.size for a in tensor.spatial) if s is not None]  # fmt: skip
    return max(16, *edges)
