"""State dicts of packages: tensors only, into networks of ours whose layout they have."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import torch

from unet_studio.errors import ModelError
from unet_studio.models.archives import UNREADABLE_ZIP
from unet_studio.models.foreign.guess import guess_architecture
from unet_studio.models.model import without_prefix
from unet_studio.models.zoo.advice import MENDED

_LARGEST = 4 * 2**30
# Under which other programs put a state dict, beside an optimiser's state and the like.
_NESTED = ("state_dict", "model_state_dict", "model")


def read_state_dict(content: bytes, where: str) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Read a state dict, and nothing else: no code in it is run.

    Parameters
    ----------
    content : bytes
        Of a file that ``torch.save`` has written.
    where : str
        What to call it in messages.

    Returns
    -------
    weights : dict of tensor
    notes : tuple of str
        What was done to get at them.

    Raises
    ------
    ModelError
        If it is damaged, or holds more than tensors.
    """
    _check_container(content, where)
    try:
        held = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything
        if type(error).__name__ == "UnpicklingError":
            raise ModelError(
                f"{where} holds more than weights (whole objects, or code). It was not opened "
                "further; ask its makers for a state dict."
            ) from None
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise ModelError(
            f"{where} can not be read as a state dict: {said}. Get the package again."
        ) from None
    notes: tuple[str, ...] = ()
    for key in _NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held, notes = held[key], (f"The weights were found under {key!r}.",)
            break
    if not isinstance(held, Mapping) or not held:
        raise ModelError(f"{where} holds no state dict. {MENDED}")
    wrong = [k for k, v in held.items() if not isinstance(v, torch.Tensor)]
    if wrong:
        raise ModelError(
            f"{where} holds {wrong[0]!r}, which is no tensor, beside weights. {MENDED}"
        )
    weights, more = without_prefix({str(k): v for k, v in held.items()})
    return weights, (*notes, *more)


def recognise(weights: Mapping[str, torch.Tensor]) -> tuple[str, dict[str, Any]] | None:
    """Return the architecture whose layout a state dict has, and its arguments, or None."""
    guess = guess_architecture({name: tuple(value.shape) for name, value in weights.items()})
    if guess is None or guess.ndim not in (2, 3):
        return None
    return guess.architecture, {
        "in_channels": guess.in_channels,
        "out_channels": guess.out_channels,
        "options": guess.options,
    }


def _check_container(content: bytes, where: str) -> None:
    if content.lstrip()[:1] == b"<":
        raise ModelError(f"{where} is a web page, not weights. Get it again.")
    if content[:2] != b"PK":
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            total = sum(info.file_size for info in archive.infolist())
    except UNREADABLE_ZIP as error:
        raise ModelError(f"{where} is damaged: {error}. Get it again.") from None
    # Torch stores without compression; what grows on reading is made to.
    if total > min(_LARGEST, 2 * len(content)):
        raise ModelError(
            f"{where} would become {total:,} bytes of {len(content):,}; not read. {MENDED}"
        )
