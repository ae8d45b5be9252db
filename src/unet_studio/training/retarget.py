"""The same network for another task: its body with what it has learned, a new head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from unet_studio.errors import ModelError
from unet_studio.models.model import Model, build_network
from unet_studio.training.parts import head_names

if TYPE_CHECKING:
    from collections.abc import Sequence


NEW_HEAD = "new_head"
_FAINT = 0.01  # of the usual random weights


def is_retargeted(model: Model) -> bool:
    """Whether the last layer is new, so that there is nothing to remember."""
    return bool(model.card.training.get(NEW_HEAD))


def retarget(model: Model, classes: Sequence[str], seed: int = 0) -> Model:
    """Give a model other classes.

    Everything but the last layer keeps its weights; the last one starts at random, and next
    to nothing: it says neither yes nor no.

    Parameters
    ----------
    model : Model
    classes : sequence of str
        One name makes a model that tells it from background; several are classes, the
        first of them background.
    seed : int
        Fixes the random weights.

    Returns
    -------
    Model
        With the old one as its parent, and a note that says what was new.

    Raises
    ------
    ModelError
        If no class is named, or more than the last layer would change.
    """
    names = tuple(classes)
    if not names:
        raise ModelError("Name at least one class that the new model is to find.")
    update: dict[str, Any] = {
        "representation": "binary" if len(names) == 1 else "classes",
        "classes": names,
        "objects": None,
        "output": "logits",
        "seam_flips": (),
        "parent": model.sha256 or model.card.parent,
        "training": {**model.card.training, **({NEW_HEAD: True} if model.card.trained else {})},
    }
    card = model.card.model_copy(update=update)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(card)
    weights, old = network.state_dict(), model.network.state_dict()
    new = [n for n, value in weights.items() if n not in old or old[n].shape != value.shape]
    if set(weights) != set(old) or len({n.rpartition(".")[0] for n in new}) > 1:
        raise ModelError(
            f"The network of {model.card.name!r} can not be given other classes by changing its "
            "last layer alone. Train a new one instead."
        )
    if not new:  # as many outputs as before, which would say what they said before
        new = head_names(network)
    # Trained features are large: random weights on them would be sure of nonsense, and take
    # most of a short training to get over it.
    weights.update({n: weights[n].detach() * _FAINT for n in new})
    weights.update({n: old[n].detach().clone() for n in weights if n not in new})
    network.load_state_dict(weights, assign=True)
    network.eval().requires_grad_(False)
    return Model(card, network, "", None, (*model.notes, "The last layer is new."))
