"""Networks that lie on a GPU, ready to run: from one tile's executor, and run, to the next.

To fold and to copy one takes some 0.1 s, in which a GPU goes through 40 million pixels.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from unet_studio.inference.fingerprint import digest_of
from unet_studio.inference.precision import prepare
from unet_studio.models.networks import EMBEDDED

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unet_studio.models.model import Model

# By the network that they were made of: of each, the last one on each device, and what that
# one was made of.
_held: WeakKeyDictionary[nn.Module, dict[str, tuple[str, nn.Module]]] = WeakKeyDictionary()
_lock = Lock()


def held_network(model: Model, device: torch.device, precision: str) -> nn.Module:
    """Return what :func:`~unet_studio.inference.precision.prepare` does, the same to all.

    It is held as long as the model's own network is, and made anew where the weights of
    that have changed.

    Parameters
    ----------
    model : Model
        Left as it is.
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}

    Returns
    -------
    torch.nn.Module
        Not to be changed.
    """
    if model.card.architecture in EMBEDDED:  # no weights to tell one from another by
        return prepare(model.network, model.card, device, precision)
    state = f"{precision} {digest_of(model)}"
    with _lock:  # those who ask for the same meanwhile wait for it
        found = _held.get(model.network, {}).get(str(device))
        if found is not None and found[0] == state:
            return found[1]
        network = prepare(model.network, model.card, device, precision)
        _held.setdefault(model.network, {})[str(device)] = state, network
        return network


def let_go(device: torch.device) -> None:
    """Hold nothing on a device any more: its memory is short."""
    with _lock:
        for networks in _held.values():
            networks.pop(str(device), None)
