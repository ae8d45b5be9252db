"""Normalisation in several steps, such as other programs write down with their models.

Statistics of a step are those of the image as the steps before it have left it,
and, as everywhere, of the whole volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.images.normalisation import (
    Scaling,
    fixed_scaling,
    percentile_scaling,
    zscore_scaling,
)

_LARGEST = float(np.finfo(np.float32).max)
_MEASURED: dict[str, Callable[..., Scaling]] = {
    "percentile": percentile_scaling,
    "zscore": zscore_scaling,
    "fixed": fixed_scaling,
}


@dataclass(frozen=True)
class Linear:
    """``(x - offset) * gain``, one of each per channel."""

    offset: tuple[float, ...]
    gain: tuple[float, ...]

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Scale an array of axes (C, ...)."""
        shape = (-1,) + (1,) * (values.ndim - 1)
        offset = np.asarray(self.offset, values.dtype).reshape(shape)
        scaled: NDArray[Any] = (values - offset) * np.asarray(self.gain, values.dtype).reshape(
            shape
        )
        return scaled


@dataclass(frozen=True)
class Clip:
    """Keep values within two bounds; None is no bound."""

    low: float | None
    high: float | None

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Clip an array of any shape."""
        return np.asarray(np.clip(values, self.low, self.high))


@dataclass(frozen=True)
class Binarize:
    """1 above a threshold, else 0."""

    threshold: float

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Compare an array of any shape; NaN stays NaN."""
        above = (values > self.threshold).astype(values.dtype)
        return np.where(np.isnan(values), values, above)


@dataclass(frozen=True)
class Sigmoid:
    """The logistic function."""

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Apply it to an array of any shape."""
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), values.dtype)


Step = Linear | Clip | Binarize | Sigmoid


@dataclass(frozen=True)
class SteppedScaling(Scaling):
    """Several steps one after the other.

    Attributes
    ----------
    steps : tuple of Step
    offset, gain : tuple of float
        Of the linear steps together, as if nothing were clipped between them. A gain
        of 0 marks a constant channel: it becomes all zero.
    """

    steps: tuple[Step, ...] = ()

    def apply(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """Scale an image.

        Parameters
        ----------
        image : array of any real dtype, axes (C, ...)

        Returns
        -------
        array of float32, C-contiguous, same shape
            Freshly allocated. NaN and infinite pixels become 0.
        """
        values = image.astype(np.float32 if image.dtype.itemsize <= 2 else np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            for step in self.steps:
                values = step(values)
        if image.dtype.kind == "f":
            values[~np.isfinite(image)] = 0
        for channel in self.constant_channels:
            values[channel] = 0
        values = np.clip(values, -_LARGEST, _LARGEST)
        return np.ascontiguousarray(values, dtype=np.float32)


def steps_scaling(sample: NDArray[np.float64], steps: Sequence[Mapping[str, Any]]) -> Scaling:
    """Measure a sequence of steps on a sample.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
        NaN does not count.
    steps : sequence of mapping
        Each has a ``method`` and its options: ``percentile``, ``zscore`` or ``fixed``
        with theirs (without ``clip``); ``linear`` with ``gain`` and ``offset``, one
        number or one per channel, for ``x * gain + offset``; ``clip`` with ``low``
        and ``high`` (either may be None); ``binarize`` with ``threshold``; ``sigmoid``.

    Raises
    ------
    RecipeError
        If a step does not exist, or its options do not fit.
    """
    if isinstance(steps, str | Mapping) or not all(isinstance(s, Mapping) for s in steps):
        raise RecipeError(
            "steps can not be used: give a list of steps, each with a method and its options."
        )
    channels = len(sample)
    offset, gain = np.zeros(channels), np.ones(channels)
    constant: set[int] = set(np.flatnonzero(np.isnan(sample).all(axis=1)).tolist())
    made: list[Step] = []
    values = sample
    for entry in steps:
        options = dict(entry)
        step, flat = _step(values, str(options.pop("method", "")), options)
        constant |= set(flat)
        if isinstance(step, Linear):
            own = np.asarray(step.gain)
            # y = ((x - o) g - o2) g2 = (x - o - o2 / g) g g2; a gain of 0 keeps its offset.
            safe = np.where(gain == 0, 1.0, gain)
            offset = offset + np.where(gain == 0, 0.0, np.asarray(step.offset) / safe)
            gain = gain * own
        made.append(step)
        with np.errstate(invalid="ignore", over="ignore"):
            values = step(values)
    gain[sorted(constant)] = 0
    return SteppedScaling(
        tuple(offset.tolist()),
        tuple(gain.tolist()),
        constant_channels=tuple(sorted(constant)),
        steps=tuple(made),
    )


def _step(
    values: NDArray[np.float64], method: str, options: dict[str, Any]
) -> tuple[Step, tuple[int, ...]]:
    """Return a step with its numbers, and the channels without any contrast."""
    try:
        if method in _MEASURED:
            if method == "percentile":
                if options.setdefault("clip", None) is not None:
                    raise RecipeError("A percentile step has no clip; add a step 'clip'.")
            scaling = _MEASURED[method](values, **options)
            return Linear(scaling.offset, scaling.gain), scaling.constant_channels
        if method not in _PLAIN:
            known = ", ".join([*_MEASURED, *_PLAIN])
            raise RecipeError(f"There is no step {method!r}. Known: {known}.")
        return _PLAIN[method](len(values), **options), ()
    except TypeError as error:
        raise RecipeError(
            f"The step {method!r} can not use its options: {error}. Correct or remove them."
        ) from None


def _linear(channels: int, gain: Any = 1.0, offset: Any = 0.0) -> Linear:
    gains, offsets = (np.atleast_1d(np.asarray(v, np.float64)) for v in (gain, offset))
    if any(v.ndim != 1 or v.size not in (1, channels) for v in (gains, offsets)):
        raise RecipeError(
            f"gain={gain!r} and offset={offset!r} do not fit {channels} channel(s); give one "
            "value, or one per channel."
        )
    if not np.isfinite(gains).all() or not np.isfinite(offsets).all() or not gains.all():
        raise RecipeError(
            f"gain={gain!r}, offset={offset!r} can not be used: give finite numbers, no gain of 0."
        )
    gains, offsets = (np.broadcast_to(v, (channels,)) for v in (gains, offsets))
    return Linear(tuple((-offsets / gains).tolist()), tuple(gains.tolist()))


def _clip(channels: int, low: float | None = None, high: float | None = None) -> Clip:
    bounds = [b for b in (low, high) if b is not None]
    if not bounds or any(math.isnan(b) for b in bounds) or bounds != sorted(bounds):
        raise RecipeError(f"low={low!r}, high={high!r}: give one bound, or the smaller first.")
    return Clip(low, high)


def _binarize(channels: int, threshold: float) -> Binarize:
    return Binarize(float(threshold))


def _sigmoid(channels: int) -> Sigmoid:
    return Sigmoid()


_PLAIN: dict[str, Callable[..., Step]] = {
    "linear": _linear,
    "clip": _clip,
    "binarize": _binarize,
    "sigmoid": _sigmoid,
}
