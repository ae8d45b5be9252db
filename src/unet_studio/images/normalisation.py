"""Bring intensities into the range that a network was trained on.

Statistics are measured once, on the whole volume (on an even subsample if it
is large), never on a tile: a tile of pure background would otherwise be
stretched to full contrast, and tiles would disagree along their seams.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ImageError, RecipeError
from unet_studio.images.percentiles import percentiles_of

# At most this many values per channel enter the statistics. An even subsample
# of 4 million moves a percentile by far less than the noise of a camera.
_SAMPLE_LIMIT = 4_000_000
_LARGEST = float(np.finfo(np.float32).max)
# A range this small beside the values themselves is rounding, not contrast.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Scaling:
    """Per channel ``(x - offset) * gain``, then clipped.

    Attributes
    ----------
    offset, gain : tuple of float
        One per channel, in intensity units and their inverse. A gain of 0
        marks a constant channel: it becomes all zero.
    clip : tuple of float or None
        Range of the result; None leaves it unbounded.
    constant_channels : tuple of int
        Channels without any contrast.
    """

    offset: tuple[float, ...]
    gain: tuple[float, ...]
    clip: tuple[float, float] | None = None
    constant_channels: tuple[int, ...] = ()

    @property
    def is_constant(self) -> bool:
        """Whether no channel has any contrast: there is nothing to look at."""
        return len(self.constant_channels) == len(self.gain)

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
        broadcast = (-1,) + (1,) * (image.ndim - 1)
        offset = np.asarray(self.offset, np.float64).reshape(broadcast)
        gain = np.asarray(self.gain, np.float64).reshape(broadcast)
        # float32 carries 8- and 16-bit integers exactly; wider types need more.
        working = np.float32 if image.dtype.itemsize <= 2 else np.float64
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = (image.astype(working) - offset.astype(working)) * gain.astype(working)
        if image.dtype.kind == "f":
            scaled[~np.isfinite(image)] = 0
        low, high = self.clip if self.clip is not None else (-np.inf, np.inf)
        if working is np.float64 or self.clip is not None:
            # What float32 can not hold would become infinite.
            np.clip(scaled, max(low, -_LARGEST), min(high, _LARGEST), out=scaled)
        return np.ascontiguousarray(scaled, dtype=np.float32)


def sample_for_statistics(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of an even subsample that are finite in some channel.

    Parameters
    ----------
    image : array of any real dtype, axes (C, ...)

    Returns
    -------
    array of float64, axes (C, values)
        NaN where a channel is not finite and another is.

    Raises
    ------
    ImageError
        If no pixel at all is finite.
    """
    return known_pixels(subsample(image))


def subsample(image: NDArray[Any], limit: int = _SAMPLE_LIMIT) -> NDArray[np.float64]:
    """Return at most ``limit`` values per channel, evenly spread; NaN where not finite.

    Parameters
    ----------
    image : array of any real dtype, axes (C, ...)
    limit : int

    Returns
    -------
    array of float64, axes (C, values)
    """
    flat = image.reshape(image.shape[0], -1)
    step = max(1, -(-flat.shape[1] // limit))
    while math.gcd(step, image.shape[-1]) > 1 and step > 1:
        step += 1  # else only a few columns of the image would be looked at
    values = flat[:, ::step].astype(np.float64)
    if image.dtype.kind == "f":
        values[~np.isfinite(values)] = np.nan
    return values


def known_pixels(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Leave out the pixels that are NaN in every channel.

    Parameters
    ----------
    values : array of float64, axes (C, values)

    Raises
    ------
    ImageError
        If no pixel is left.
    """
    lost = np.isnan(values).all(axis=0)
    if lost.all():
        raise ImageError(
            "The image has no finite pixel (all are NaN or infinite); there is nothing "
            "to segment. Check how it was made or loaded."
        )
    return values[:, ~lost] if lost.any() else values


def _is_wide(width: NDArray[np.float64], magnitude: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a range is more than rounding, and its inverse a normal number."""
    return np.asarray(width > np.maximum(np.finfo(np.float64).tiny, _ROUNDING * magnitude))


def _scaling(
    low: NDArray[np.float64],
    width: NDArray[np.float64],
    clip: tuple[float, float] | None,
) -> Scaling:
    """Return the scaling of ``low`` to 0 and ``low + width`` to 1; width 0 is constant."""
    constant = ~(width > 0)
    gain = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, width))
    return Scaling(
        offset=tuple(low.tolist()),
        gain=tuple(gain.tolist()),
        clip=clip,
        constant_channels=tuple(np.flatnonzero(constant).tolist()),
    )


def percentile_scaling(
    sample: NDArray[np.float64],
    low: float = 0.5,
    high: float = 99.9,
    clip: tuple[float, float] | None = (-0.5, 2.0),
    joint: bool = False,
    eps: float = 0.0,
) -> Scaling:
    """Map two percentiles to 0 and 1.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
        NaN does not count.
    low, high : float
        Percentiles, 0 to 100.
    clip : tuple of float or None
        Range kept after scaling.
    joint : bool
        One pair of percentiles for all channels (colour images, where the
        ratio of the channels carries meaning) instead of one per channel.
    eps : float
        Added to the range before it divides, as other programs do that the network
        was trained with. Then nothing else is put in the place of an empty range.

    Raises
    ------
    RecipeError
        If an option is out of range.
    """
    clip = _checked_percentiles(low, high, clip, joint)
    eps = _checked_eps(eps)
    groups = [_known(sample.ravel())] * len(sample) if joint else _channel_values(sample)
    empty = np.asarray(np.isnan(sample).all(axis=1))
    bounds, ranges = np.zeros((2, len(sample))), np.zeros((2, len(sample)))
    for channel in np.flatnonzero(~empty):
        if joint and channel and not empty[0]:
            bounds[:, channel], ranges[:, channel] = bounds[:, 0], ranges[:, 0]
            continue
        values = groups[channel]
        ranges[:, channel] = values.min(), values.max()
        bounds[:, channel] = percentiles_of(values, (low, high), *ranges[:, channel])
    if eps:
        there = _is_wide(ranges[1] - ranges[0], np.abs(ranges).max(axis=0))
        return _scaling(bounds[0], np.where(there, bounds[1] - bounds[0] + eps, 0.0), clip)
    # Nearly empty images: the percentiles fall on one value although a few
    # pixels differ. The full range is then the only contrast there is.
    wide = _is_wide(bounds[1] - bounds[0], np.abs(bounds).max(axis=0))
    lows, highs = np.where(wide, bounds, ranges)
    width = highs - lows
    wide = _is_wide(width, np.maximum(np.abs(lows), np.abs(highs)))
    return _scaling(lows, np.where(wide, width, 0.0), clip)


def _checked_percentiles(
    low: float, high: float, clip: Sequence[float] | None, joint: bool
) -> tuple[float, float] | None:
    if not 0 <= low < high <= 100:
        raise RecipeError(
            f"Percentiles low={low} and high={high} can not be used: 0 <= low < high <= 100."
        )
    if not isinstance(joint, bool):
        raise RecipeError(f"joint is {joint!r}; it can be true or false.")
    if clip is None:
        return None
    if len(clip) != 2 or not clip[0] < clip[1]:
        raise RecipeError(f"clip is {clip!r}; give two numbers, the smaller one first.")
    return float(clip[0]), float(clip[1])


def _checked_eps(eps: float) -> float:
    if not isinstance(eps, int | float) or not 0 <= eps < math.inf:
        raise RecipeError(f"eps is {eps!r}; give a number that is not negative.")
    return float(eps)


def _channel_values(sample: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the finite values of each channel."""
    return [_known(channel) for channel in sample]


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    unknown = np.isnan(values)
    return values[~unknown] if unknown.any() else values


def zscore_scaling(sample: NDArray[np.float64], joint: bool = False, eps: float = 0.0) -> Scaling:
    """Zero mean and unit standard deviation per channel; NaN does not count.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
    joint : bool
        One mean and deviation for all channels instead of one per channel.
    eps : float
        Added to the deviation before it divides, as other programs do that the network
        was trained with.

    Raises
    ------
    RecipeError
        If an option is out of range.
    """
    eps = _checked_eps(eps)
    if not isinstance(joint, bool):
        raise RecipeError(f"joint is {joint!r}; it can be true or false.")
    if joint:
        one = zscore_scaling(sample[~np.isnan(sample)][None], eps=eps)
        empty = np.isnan(sample).all(axis=1)
        gain = np.where(empty, 0.0, one.gain[0])
        return Scaling(
            one.offset * len(sample),
            tuple(gain.tolist()),
            constant_channels=tuple(np.flatnonzero(gain == 0).tolist()),
        )
    if np.isnan(sample).any():
        values = [v if v.size else np.zeros(1) for v in _channel_values(sample)]
        parts = [_moments(v[None]) for v in values]
        mean, std, low, high = (np.concatenate(column) for column in zip(*parts, strict=True))
    else:
        mean, std, low, high = _moments(sample)
    # The deviation of equal values is rarely exactly 0: their mean is rounded.
    wide = (high > low) & _is_wide(std, np.maximum(np.abs(low), np.abs(high)))
    return _scaling(mean, np.where(wide, std + eps, 0.0), None)


def _moments(sample: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Return mean, standard deviation, minimum and maximum of each channel."""
    low, high = sample.min(axis=1), sample.max(axis=1)
    largest = max(abs(float(low.min())), abs(float(high.max())))
    # Squares of numbers beyond this overflow or vanish. A power of 2 changes no digit.
    exponent = math.frexp(largest)[1] if largest and not 1e-140 < largest < 1e140 else 0
    scaled = np.ldexp(sample, -exponent) if exponent else sample
    mean, std = scaled.mean(axis=1), scaled.std(axis=1)
    return np.ldexp(mean, exponent), np.ldexp(std, exponent), low, high


def fixed_scaling(
    sample: NDArray[np.float64],
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Scaling:
    """Subtract given means and divide by given deviations, whatever the image holds.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
        Only its channel count is used, and which channels are NaN throughout:
        those count as constant.
    mean, std : tuple of float
        One value, or one per channel, in the image's intensity units.

    Raises
    ------
    RecipeError
        If a deviation is not positive or there is not one value per channel.
    """
    channels = len(sample)
    given = np.atleast_1d(np.asarray(mean, np.float64)), np.atleast_1d(np.asarray(std, np.float64))
    if any(v.ndim != 1 or v.size not in (1, channels) for v in given):
        raise RecipeError(
            f"mean={mean!r} and std={std!r} do not fit {channels} channel(s); give one value, or "
            "one per channel."
        )
    if not (np.isfinite(given[0]).all() and (given[1] > np.finfo(np.float64).tiny).all()):
        raise RecipeError(
            f"mean={mean!r}, std={std!r} can not be used: give finite means and positive "
            "deviations."
        )
    offset, width = (np.broadcast_to(v, (channels,)) for v in given)
    return _scaling(offset, np.where(np.isnan(sample).all(axis=1), 0.0, width), None)


def pretrained_scaling(
    sample: NDArray[np.float64],
    mean: tuple[float, ...] = (0.449,),
    std: tuple[float, ...] = (0.226,),
    span: tuple[float, float] | None = None,
    joint: bool = False,
) -> Scaling:
    """Bring an image into the range of photographs that an encoder was trained on.

    The image's own range becomes 0 to 1, whatever its bit depth; then the photographs'
    mean is subtracted and the result divided by their deviation.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
        NaN does not count.
    mean, std : tuple of float
        One value, or one per channel, in units of the full range. By default the averages
        over the three colours of ImageNet.
    span : tuple of float or None
        What becomes 0 and 1, in the image's intensity units: ``(0, 255)`` treats 8-bit
        images as the encoder's training did. None takes the percentiles 0.5 and 99.9.
    joint : bool
        One range for all channels, as for colours.

    Raises
    ------
    RecipeError
        If an option is out of range.
    """
    base = fixed_scaling(sample, mean, std)  # also checks them
    constant = {channel for channel, gain in enumerate(base.gain) if gain == 0}
    if span is None:
        range_ = percentile_scaling(sample, joint=joint)
        clip, constant = range_.clip, constant | set(range_.constant_channels)
        low = np.asarray(range_.offset)
        width = np.array([0.0 if g == 0 else 1 / g for g in range_.gain])
    else:
        if len(span) != 2 or not span[0] < span[1]:
            raise RecipeError(f"span is {span!r}; give two numbers, the smaller one first.")
        low, width = np.full(len(sample), float(span[0])), np.full(len(sample), span[1] - span[0])
        clip = None
    centre, deviation = (
        np.broadcast_to(np.atleast_1d(np.asarray(v, np.float64)), (len(sample),))
        for v in (mean, std)
    )
    wide = np.array([c not in constant for c in range(len(sample))])
    scaling = _scaling(low + centre * width, np.where(wide, deviation * width, 0.0), None)
    if clip is None:
        return scaling
    limits = (np.asarray(clip)[:, None] - centre) / deviation
    return replace(scaling, clip=(float(limits[0].min()), float(limits[1].max())))
