"""Read the weights of a checkpoint of nnU-Net, and nothing that could run code.

Checkpoints are pickles. Beside tensors and plain values they hold a few numbers of
numpy (the training's curves), whose types are allowed here one by one. Anything else
ends the reading before it is looked at.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from unet_studio.errors import ModelError
from unet_studio.models.archives import UNREADABLE_ZIP
from unet_studio.models.networks.nnunet import first_name
from unet_studio.models.nnunet.folder import Trained

_NAME = re.compile(r"[\w.+-]{1,120}")
_SCALARS = ("float16", "float32", "float64", "int32", "int64", "bool")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes
    ----------
    weights : dict of tensor
        As stored, each under one name; they may be mapped from the file.
    configuration, trainer : str
    mirror_axes : tuple of int
        Spatial axes of the network that may be mirrored.
    epochs : int
    """

    weights: dict[str, torch.Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    epochs: int


def read_checkpoint(trained: Trained, fold: str, file: str) -> Checkpoint:
    """Read the checkpoint of one fold.

    Raises
    ------
    ModelError
        If it is damaged, is no checkpoint of nnU-Net, or holds anything but numbers,
        texts and containers of them.
    """
    name = f"{trained.prefix}fold_{fold}/{file}"
    shown = f"fold_{fold}/{file} in {trained.where}"
    with trained.store.weights(name) as source:
        content = _load(source, shown)
        try:
            return _understood(content)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ModelError(
                f"{shown} is not a checkpoint of nnU-Net v2: what it holds is of another form. "
                "Give the folder that nnU-Net's training made."
            ) from None


def in_memory(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy weights out of the file: float32, counters as they are.

    To be called once their shapes are known to be those of the network.
    """
    return {
        name: value.to(
            torch.float32 if value.is_floating_point() else value.dtype, copy=True
        ).contiguous()
        for name, value in weights.items()
    }


def _load(source: Any, shown: str) -> Any:
    mapped = not hasattr(source, "read")
    if _packed(source):
        raise ModelError(
            f"{shown} is compressed inside, as torch never writes it: it was made to fill the "
            "memory, and was not read. Get it from another place."
        )
    try:
        with torch.serialization.safe_globals(_numbers_of_numpy()):
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a crafted file may end the reading with any error
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if refused:
            reason = (
                f"refers to {refused[1]}, which could run code, so it was not read. Only use "
                "models of a source that you trust, and train or export it again without that"
            )
        elif str(error).startswith("Weights only"):
            reason = "holds more than numbers, or is damaged, so it was not read. Get it again"
        else:
            reason = "is truncated or damaged. Copy or download it again"
        raise ModelError(f"{shown} {reason}.") from None


def _packed(source: Any) -> bool:
    """Whether what looks like a file of torch would grow when it is read."""
    try:
        with zipfile.ZipFile(source) as archive:
            return any(m.file_size > m.compress_size for m in archive.infolist())
    except UNREADABLE_ZIP:
        return False  # torch will say what it is
    finally:
        if hasattr(source, "seek"):
            source.seek(0)


def _numbers_of_numpy() -> list[Any]:
    """Return what pickled numbers of numpy consist of, under its old and its new name."""
    from numpy._core.multiarray import scalar

    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(name)) for name in _SCALARS),
    ]


def _understood(content: Mapping[str, Any]) -> Checkpoint:
    arguments = content["init_args"]
    mirror = content.get("inference_allowed_mirroring_axes")
    weights = {}
    for name, value in content["network_weights"].items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise TypeError(name)
        # torch.compile and DistributedDataParallel put a word before every name.
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
        kept = first_name(name)
        if kept is not None:
            if value.untyped_storage().nbytes() < value.numel() * value.element_size():
                # Large, but hardly any bytes in the file: made to fill the memory.
                raise ValueError(name)
            weights[kept] = value.detach()
    return Checkpoint(
        weights,
        _word(arguments["configuration"]),
        _word(content["trainer_name"]),
        tuple(sorted({int(axis) for axis in mirror or ()})),
        int(content.get("current_epoch", 0)),
    )


def _word(text: Any) -> str:
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise ValueError(text)
    return text
