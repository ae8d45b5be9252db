"""Find the weights in what a file held, and take wrappers' prefixes off their names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from unet_studio.errors import ModelError

if TYPE_CHECKING:
    from unet_studio.models.foreign.containers import Weights

# Where training scripts put the weights in their checkpoints; the first one found counts.
_PLACES = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "network_weights",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "state",
)
# DataParallel, torch.compile, Lightning modules
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")
# What Lightning modules keep beside their network.
_ASIDE = ("loss", "criterion", "metric", "train_metric", "val_metric", "test_metric")
_SHOWN = 8


def find_weights(found: Any, path: Path) -> Weights:
    """Return the weights of what a file held, under the names of the bare network.

    Parameters
    ----------
    found : object
        As torch or safetensors returned it.
    path : Path
        For messages.

    Raises
    ------
    ModelError
        If there are none; the message lists what there is.
    """
    from unet_studio.models.foreign.containers import Weights

    if not isinstance(found, Mapping):
        raise ModelError(
            f"{path} holds {_words(found)} instead of weights by name. Where the model was made, "
            "save its state_dict, and import that file."
        )
    notes: list[str] = []
    if not _is_state(found):
        place = next((p for p in _PLACES if _is_state(found.get(p))), None)
        if place is None:
            raise ModelError(
                f"{path} holds no weights where they usually are. It holds: {_listing(found)}. "
                "Save the state_dict of the model alone, and import that file."
            )
        notes.append(f"The weights were taken from {place!r} of a training checkpoint.")
        found = found[place]
    weights = {str(n): v for n, v in found.items() if isinstance(v, torch.Tensor)}
    others = [str(n) for n, v in found.items() if not isinstance(v, torch.Tensor)]
    if others:
        notes.append(f"Left out, as they are no tensors: {', '.join(others[:_SHOWN])}.")
    _check_numbers(weights, path)
    return Weights(_bare(weights, notes), tuple(notes))


def _is_state(value: Any) -> bool:
    """Whether something is weights by name: at least half of it tensors."""
    if not isinstance(value, Mapping) or not value:
        return False
    return 2 * sum(isinstance(v, torch.Tensor) for v in value.values()) >= len(value)


def _check_numbers(weights: Mapping[str, torch.Tensor], path: Path) -> None:
    for name, value in weights.items():
        if value.is_quantized or value.is_complex() or value.layout != torch.strided:
            raise ModelError(
                f"{name} in {path} is of a kind that can not be used ({value.dtype}, "
                f"{value.layout}). Save the weights as float32."
            )


def _bare(weights: dict[str, torch.Tensor], notes: list[str]) -> dict[str, torch.Tensor]:
    """Take off the prefixes that all names share, and say so."""
    aside = [n for n in weights if n.split(".")[0] in _ASIDE]
    if aside and len(aside) < len(weights):
        rest = {n: w for n, w in weights.items() if n not in aside}
        if any(all(n.startswith(p) for n in rest) for p in _PREFIXES):
            weights = rest
            notes.append(f"Left out, as they belong to training: {', '.join(aside[:_SHOWN])}.")
    taken = ""
    while prefix := next((p for p in _PREFIXES if all(n.startswith(p) for n in weights)), None):
        if not weights:
            break
        weights = {n.removeprefix(prefix): w for n, w in weights.items()}
        taken += prefix
    if taken:
        notes.append(f"The weights' names began with {taken!r} (a wrapper's); it was taken off.")
    return weights


def _listing(found: Mapping[Any, Any]) -> str:
    parts = [f"{name} ({_words(value)})" for name, value in list(found.items())[:_SHOWN]]
    more = len(found) - len(parts)
    return (", ".join(parts) or "nothing") + (f" and {more} more" if more > 0 else "")


def _words(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"{len(value)} entries"
    return f"a {type(value).__name__}"
