"""What tells one network from another: a hash of its weights, made once for each network."""

from __future__ import annotations

import hashlib
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from unet_studio.versions import version_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.models.model import Model

_ROW = 256  # words of 8 bytes

_known: WeakKeyDictionary[torch.nn.Module, tuple[Any, str]] = WeakKeyDictionary()
_lock = Lock()


def digest_of(model: Model) -> str:
    """Return a hash of all that a converted network depends on.

    It is made once for each network, and again where the weights are not what they were: the
    last one is used only if torch has counted no write to them since, and sums over their
    bytes, which take a fraction of the time of the hash, are the same. These tell of what was
    written behind torch's back, by ``.data`` or NumPy.
    """
    head, tensors = _head(model), model.network.state_dict()
    # Before the hash: what is written while it is made is another state.
    state = head, tuple((name, *_state_of(value)) for name, value in tensors.items())
    with _lock:
        known = _known.get(model.network)
    if known is not None and known[0] == state:
        return known[1]
    digest = _hash(head, tensors)
    with _lock:
        _known[model.network] = state, digest
    return digest


def _head(model: Model) -> str:
    """Return what there is to a network besides its weights."""
    packages = ("napari-unet-studio", "torch", "openvino")
    lines = [f"{package} {version_of(package)}\n" for package in packages]
    card = model.card.model_dump_json(include={"architecture", "options"})
    return "".join([*lines, repr(model.network), card])


def _hash(head: str, tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256(head.encode())
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(_bytes(value).data)
    return digest.hexdigest()[:32]


def _state_of(value: torch.Tensor) -> tuple[Any, ...]:
    writes = None if value.is_inference() else value._version  # those are not counted
    return value.dtype, tuple(value.shape), value.data_ptr(), writes, _sums(_bytes(value))


def _sums(content: NDArray[np.uint8]) -> bytes:
    """Return sums that change with any single byte, and where bytes change places."""
    whole = len(content) // (8 * _ROW) * (8 * _ROW)
    table = content[:whole].view(np.uint64).reshape(-1, _ROW)
    rest = content[whole:]
    parts = (table.sum(axis=0), table.sum(axis=1), rest)
    return b"".join(part.tobytes() for part in parts)


def _bytes(value: torch.Tensor) -> NDArray[np.uint8]:
    flat = value.detach().cpu().contiguous().flatten()
    found: NDArray[np.uint8] = flat.view(torch.uint8).numpy()
    return found
