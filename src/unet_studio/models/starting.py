"""What weights a new model starts with, and what its card says of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_studio.errors import ModelError
from unet_studio.events import CancelToken, Event
from unet_studio.models.encoder_files import obtain_weights, remember, sha256_of
from unet_studio.models.encoders import RANDOM, EncoderWeights, default_encoder, find_encoder
from unet_studio.recipe import Normalisation
from unet_studio.user_paths import user_path

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.models.model import Model

INFLATE = "inflate:"
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Start:
    """Weights to begin with.

    Attributes
    ----------
    encoder : str
        Whose weights ``path`` holds; empty otherwise.
    path : Path or None
        File with an encoder's weights.
    known : EncoderWeights or None
        What the table says of them.
    fetched : bool
        ``path`` is the file of the Hub, not one of the user's.
    flat : Model or None
        2D model to be inflated.
    options : dict or None
        Options of the network that these weights ask for.
    """

    encoder: str = ""
    path: Path | None = None
    known: EncoderWeights | None = None
    fetched: bool = False
    flat: Model | None = None
    options: dict[str, Any] | None = None

    def load(self, network: nn.Module) -> tuple[str, ...]:
        """Put the weights into a network, in place; return what is to be told."""
        if self.path is not None:
            from unet_studio.models.encoder_weights import load_encoder

            notes = load_encoder(network, self.encoder, self.path)
            if self.fetched:
                assert self.known is not None
                remember(self.path, self.known)
            return notes
        if self.flat is not None:
            from unet_studio.models.inflation import inflate_into

            return inflate_into(network, self.flat)
        return ()


def start_weights(
    weights: str | Path,
    architecture: str,
    options: dict[str, Any],
    *,
    may_download: bool = False,
    token: CancelToken | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Start:
    """Find the weights that a new model is to start with; see :func:`.presets.new_model`.

    Raises
    ------
    ModelError
        If there are none of this name for the encoder, or they can not be had.
    Cancelled
    """
    text = str(weights)
    if text == RANDOM:
        return Start()
    if text.startswith(INFLATE):
        return _inflated(text.removeprefix(INFLATE), architecture)
    if not architecture.startswith("smp-"):
        raise ModelError(
            f"The architecture {architecture} has no encoder that trained weights {text!r} could "
            "be for. Choose one of the smp- architectures, or weights 'random'."
        )
    encoder = str(options.get("encoder", default_encoder(architecture)))
    path = user_path(text)
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return Start(encoder, path, _of_file(encoder))
    known = find_encoder(encoder).find_weights(text)
    path = obtain_weights(known, may_download=may_download, token=token, on_event=on_event)
    return Start(encoder, path, known, fetched=True)


def _of_file(encoder: str) -> EncoderWeights | None:
    """Return the table's first weights of an encoder: its usual normalisation."""
    try:
        return find_encoder(encoder).weights[0]
    except (ModelError, IndexError):
        return None


def _inflated(name: str, architecture: str) -> Start:
    from unet_studio.models.inflation import INFLATABLE
    from unet_studio.models.model import load_model

    if architecture not in INFLATABLE:
        raise ModelError(
            f"Only the plain U-Net (architecture unet) can be made 3D from 2D, not "
            f"{architecture}. Choose that, or weights 'random'."
        )
    flat = load_model(name)
    return Start(flat=flat, options=dict(flat.card.options))


def starting_card(start: Start, in_channels: int) -> dict[str, Any]:
    """Return the fields of a card that follow from the weights."""
    if start.flat is not None:
        card = start.flat.card
        return {
            "description": f"Made 3D from the 2D model {card.name!r}; to be trained.",
            "normalisation": card.normalisation,
            "licence": card.licence,
            "training_data": card.training_data,
            "citation": card.citation,
            "parent": start.flat.sha256 or None,
        }
    if start.path is None:
        return {"description": "Random weights: it finds nothing until it is trained."}
    known = start.known
    source = start.path.name if known is None else f"{known.repository} ({known.tag})"
    return {
        "description": "A trained encoder under a random decoder: it finds nothing until it is "
        "trained.",
        "normalisation": encoder_normalisation(known, in_channels),
        "licence": "unknown" if known is None else f"encoder: {known.licence}",
        "training": {
            "encoder_weights": source,
            "encoder_sha256": sha256_of(start.path),
        },
    }


def encoder_normalisation(known: EncoderWeights | None, in_channels: int) -> Normalisation:
    """Return how images are brought into the range that an encoder was trained on.

    Three channels get the encoder's own means and deviations of red, green and blue; any
    other number their averages.
    """
    mean, std = _IMAGENET if known is None else (known.mean, known.std)
    options: dict[str, Any] = {"mean": list(mean), "std": list(std)}
    if in_channels != len(mean):
        options = {
            "mean": [round(sum(mean) / len(mean), 6)],
            "std": [round(sum(std) / len(std), 6)],
        }
    return Normalisation(method="pretrained", options=options)
