"""New, untrained models: a choice of architecture under one name."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model, build_network
from unet_studio.models.networks.smp import ENCODERS
from unet_studio.models.networks.unet import ORIGINAL_WIDTHS, SLIM_WIDTHS, TINY_WIDTHS
from unet_studio.models.probe import probe_network

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"widths": list(ORIGINAL_WIDTHS)}),
    "unet-slim": ("unet", {"widths": list(SLIM_WIDTHS)}),
    "unet-tiny": ("unet", {"widths": list(TINY_WIDTHS)}),
    **{encoder: ("smp-unet", {"encoder": encoder}) for encoder in ENCODERS},
}


def new_model(
    preset: str,
    *,
    in_channels: int = 1,
    ndim: int = 2,
    representation: str = "binary",
    classes: tuple[str, ...] | None = None,
    seed: int = 0,
    **card_fields: Any,
) -> Model:
    """Make a model with random weights, measured by the probe.

    Parameters
    ----------
    preset : str
        Name in :data:`PRESETS`.
    in_channels : int
    ndim : {2, 3}
    representation : {"binary", "classes", "objects"}
    classes : tuple of str, optional
        Names; for "classes" the first is the background.
    seed : int
        Fixes the random weights.
    **card_fields
        More fields of the :class:`~unet_studio.models.card.ModelCard`.

    Raises
    ------
    ModelError
        For an unknown preset or fields that contradict each other.
    """
    if preset not in PRESETS:
        raise ModelError(f"There is no preset {preset!r}. Known: {', '.join(PRESETS)}.")
    architecture, options = PRESETS[preset]
    if classes is None:
        classes = ("background", "foreground") if representation == "classes" else ("object",)
    fields = {
        "name": f"{preset} (untrained)",
        "architecture": architecture,
        "options": options,
        "in_channels": in_channels,
        "ndim": ndim,
        "representation": representation,
        "classes": classes,
        "description": "Random weights: it finds nothing until it is trained.",
        **card_fields,
    }
    try:
        card = ModelCard.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"No such model can be made: {first['loc']}: {first['msg']}.") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(card).eval().requires_grad_(False)
    return Model(card.model_copy(update=probe_network(network, card).card_fields()), network)
