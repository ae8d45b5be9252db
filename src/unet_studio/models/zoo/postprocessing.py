"""A package's post-processing: what the network returns, and what becomes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ModelError
from unet_studio.models.card import Representation
from unet_studio.models.zoo.advice import ANOTHER
from unet_studio.models.zoo.tensors import Process, Tensor
from unet_studio.recipe import ObjectsMethod

OBJECT_CHANNELS = ("foreground", "boundary", "distance")
_SUM_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Output:
    """How a network's channels are read.

    Attributes
    ----------
    output : {"logits", "probabilities"}
    representation : Representation
    classes : tuple of str
    objects : ObjectsMethod or None
    channel : int or None
        The one channel that is taken.
    threshold : float or None
        The package's test output is 1 above it, else 0.
    notes : tuple of str
    """

    output: Literal["logits", "probabilities"]
    representation: Representation
    classes: tuple[str, ...]
    objects: ObjectsMethod | None = None
    channel: int | None = None
    threshold: float | None = None
    notes: tuple[str, ...] = ()


def map_postprocessing(
    tensor: Tensor, example: NDArray[Any] | None, channel: int | None = None
) -> Output:
    """Decide how a network's channels are read.

    Parameters
    ----------
    tensor : Tensor
        The output.
    example : array or None
        The package's test output, axes as described.
    channel : int, optional
        The channel that the user wants, from 0.

    Raises
    ------
    ModelError
        If a step can not be done exactly, or there is no such channel.
    """
    activation, threshold = _activation(tensor.processes)
    notes: list[str] = []
    count = tensor.channels
    if channel is not None and not 0 <= channel < count:
        raise ModelError(
            f"There is no output channel {channel}; they are 0 to {count - 1}. Choose one of them."
        )
    output: Literal["logits", "probabilities"] = "logits"
    if activation is None:
        output = "probabilities" if _within_one(tensor, example) else "logits"
        notes.append(
            "The package names no sigmoid or softmax; by its range the network's output is taken "
            f"for {output}."
        )
        if output == "logits" and threshold is not None:
            threshold = 1 / (1 + math.exp(-threshold))
    names = tensor.channel_names
    if channel is None and count > 1:
        exclusive = activation == "softmax" or (
            activation is None and (output == "logits" or _sums_to_one(tensor, example))
        )
        if exclusive:
            return _classes(output, names, count, threshold, notes)
        if tuple(names) == OBJECT_CHANNELS:
            return Output(output, "objects", ("object",), notes=tuple(notes))
        channel = 0
        listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names)) or f"0 to {count - 1}"
        notes.append(
            f"The network returns {count} independent channels ({listed}); channel 0 is taken as "
            "the foreground. Choose another with --set channel=1 and so on."
        )
    elif channel is not None and (activation == "softmax"):
        raise ModelError("The channels of this model are exclusive classes; take all of them.")
    name = names[channel or 0] if len(names) > (channel or 0) else "object"
    objects = None
    if threshold is not None:
        objects = ObjectsMethod(method="components", options={"threshold": threshold})
    taken = channel if count > 1 else None
    return Output(output, "binary", (name,), objects, taken, threshold, tuple(notes))


def _classes(
    output: Literal["logits", "probabilities"],
    names: tuple[str, ...],
    count: int,
    threshold: float | None,
    notes: list[str],
) -> Output:
    if len(names) != count or len(set(names)) != count:
        names = ("background", *(f"class {i}" for i in range(1, count)))
    if threshold is not None:
        notes.append("The package thresholds each class; here the most probable class is taken.")
    notes.append(f"Channel 0, {names[0]!r}, is taken as the background.")
    return Output(output, "classes", names, threshold=threshold, notes=tuple(notes))


def _activation(
    processes: tuple[Process, ...],
) -> tuple[Literal["sigmoid", "softmax"] | None, float | None]:
    """Return the activation that a package adds, and the threshold after it."""
    activation: Literal["sigmoid", "softmax"] | None = None
    threshold: float | None = None
    for process in processes:
        what, kwargs = process.what, process.kwargs
        if what == "ensure_dtype":
            continue
        if threshold is not None:
            raise _refusal(what, "after a threshold")
        if what in ("sigmoid", "softmax"):
            if activation is not None:
                raise _refusal(what, "after another")
            if kwargs.get("axis", "channel") != "channel":
                raise _refusal(what, f"along {kwargs['axis']!r}")
            activation = "sigmoid" if what == "sigmoid" else "softmax"
        elif what == "binarize":
            value = kwargs.get("threshold")
            if not isinstance(value, int | float):
                raise _refusal(what, f"with thresholds {value!r}")
            threshold = float(value)
        elif what == "clip" and activation is not None and _keeps_probabilities(kwargs):
            continue
        else:
            raise _refusal(what)
    return activation, threshold


def _keeps_probabilities(kwargs: dict[str, Any]) -> bool:
    low, high = kwargs.get("min"), kwargs.get("max")
    percentiles = kwargs.get("min_percentile") is None and kwargs.get("max_percentile") is None
    return percentiles and (low is None or low <= 0) and (high is None or high >= 1)


def _within_one(tensor: Tensor, example: NDArray[Any] | None) -> bool:
    if example is not None and example.size:
        return bool(example.min() >= 0 and example.max() <= 1)
    return tensor.range == (0.0, 1.0)


def _sums_to_one(tensor: Tensor, example: NDArray[Any] | None) -> bool:
    if example is None or "c" not in tensor.letters:
        return False
    total = example.sum(axis=tensor.letters.index("c"), dtype=np.float64)
    return bool(np.abs(total - 1).max() < _SUM_TOLERANCE)


def _refusal(what: str, how: str = "") -> ModelError:
    return ModelError(
        f"The package's post-processing step {what!r}{' ' + how if how else ''} can not be done "
        f"exactly here, so the model was not imported. {ANOTHER}"
    )
