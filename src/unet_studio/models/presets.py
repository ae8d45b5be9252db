"""New models: a choice of architecture, encoder and weights under one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from unet_studio.errors import ModelError
from unet_studio.events import CancelToken, Event
from unet_studio.models.card import ModelCard
from unet_studio.models.choices import PRESETS, choose
from unet_studio.models.encoders import RANDOM
from unet_studio.models.model import Model, build_network
from unet_studio.models.probe import probe_network
from unet_studio.models.starting import start_weights, starting_card

__all__ = ["PRESETS", "new_model"]


def new_model(
    preset: str,
    *,
    in_channels: int = 1,
    ndim: int = 2,
    representation: str = "binary",
    classes: tuple[str, ...] | None = None,
    seed: int = 0,
    weights: str | Path = RANDOM,
    download: bool = False,
    token: CancelToken | None = None,
    on_event: Callable[[Event], None] | None = None,
    **card_fields: Any,
) -> Model:
    """Make a model to be trained, measured by the probe.

    Parameters
    ----------
    preset : str
        Name in :data:`PRESETS`, an architecture, an encoder (under a U-Net decoder), or
        ``"ARCHITECTURE/ENCODER"`` such as ``"smp-fpn/resnet34"``.
    in_channels : int
        With trained weights, the encoder's first layer is adapted to it.
    ndim : {2, 3}
    representation : {"binary", "classes", "objects"}
    classes : tuple of str, optional
        Names; for "classes" the first is the background.
    seed : int
        Fixes the random weights.
    weights : str or Path
        ``"random"``; ``"imagenet"`` or another name of the encoder's trained weights; the
        path of a file with the encoder's weights; or ``"inflate:MODEL"``, which makes a plain
        3D U-Net from a 2D one.
    download : bool
        Whether trained weights that are not on this computer may be downloaded. Without
        it the network is never used.
    token : CancelToken, optional
        Stops a download.
    on_event : callable, optional
        Told of a download's progress.
    **card_fields
        More fields of the :class:`~unet_studio.models.card.ModelCard`.

    Raises
    ------
    ModelError
        For an unknown preset, fields that contradict each other, or weights that can not
        be had or do not fit.
    Cancelled
    """
    architecture, options = choose(preset, ndim)
    start = start_weights(
        weights, architecture, options, may_download=download, token=token, on_event=on_event
    )
    if start.options is not None:
        options = start.options
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
        "trained": False,
        **starting_card(start, in_channels),
        **card_fields,
    }
    try:
        card = ModelCard.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its fields"
        raise ModelError(
            f"No such model can be made: {place}: {first['msg']}. Correct that."
        ) from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(card).eval()
    notes = start.load(network)
    network.requires_grad_(False)
    try:
        measured = probe_network(network, card).card_fields()
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError(
            f"The network {preset!r} can not be run on images of every size: {reason}. "
            "Choose another encoder; `unet-studio models encoders` lists those that can."
        ) from error
    return replace(Model(card.model_copy(update=measured), network), notes=notes)
