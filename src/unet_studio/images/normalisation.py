"""Bring intensities into the range that a network was trained on.

Statistics are measured once, on the whole volume (on an even subsample if it
is large), never on a tile: a tile of pure background would otherwise be
stretched to full contrast, and tiles would disagree along their seams.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import ImageError
from unet_studio.registry import Registry

# At most this many values per channel enter the statistics. An even subsample
# of 4 million moves a percentile by far less than the noise of a camera.
_SAMPLE_LIMIT = 4_000_000
_LARGEST = float(np.finfo(np.float32).max)


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
    """Return the finite values of an even subsample, axes (C, values).

    Parameters
    ----------
    image : array of any real dtype, axes (C, ...)

    Raises
    ------
    ImageError
        If no pixel at all is finite.
    """
    flat = image.reshape(image.shape[0], -1)
    step = max(1, -(-flat.shape[1] // _SAMPLE_LIMIT))
    while math.gcd(step, image.shape[-1]) > 1 and step > 1:
        step += 1  # else only a few columns of the image would be looked at
    values = flat[:, ::step].astype(np.float64)
    finite = np.isfinite(values).all(axis=0)
    if not finite.any():
        raise ImageError(
            "The image has no finite pixel (all are NaN or infinite); there is nothing "
            "to segment. Check how it was made or loaded."
        )
    return values[:, finite]


def _scaling(
    low: NDArray[np.float64],
    width: NDArray[np.float64],
    clip: tuple[float, float] | None,
) -> Scaling:
    # The inverse of anything narrower than the smallest normal number overflows.
    constant = ~(width > np.finfo(np.float64).tiny)
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
) -> Scaling:
    """Map two percentiles to 0 and 1.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
    low, high : float
        Percentiles, 0 to 100.
    clip : tuple of float or None
        Range kept after scaling.
    joint : bool
        One pair of percentiles for all channels (colour images, where the
        ratio of the channels carries meaning) instead of one per channel.
    """
    if joint:
        bounds = np.percentile(sample, [low, high])
        lows, highs = (np.full(len(sample), bound) for bound in bounds)
    else:
        lows, highs = np.percentile(sample, [low, high], axis=1)
    if not (highs > lows).all():
        # Nearly empty images: the percentiles fall on one value although a few
        # pixels differ. The full range is then the only contrast there is.
        full_low, full_high = sample.min(axis=1), sample.max(axis=1)
        if joint:
            full_low[:], full_high[:] = full_low.min(), full_high.max()
        flat = ~(highs > lows)
        lows = np.where(flat, full_low, lows)
        highs = np.where(flat, full_high, highs)
    return _scaling(lows, highs - lows, clip)


def zscore_scaling(sample: NDArray[np.float64]) -> Scaling:
    """Zero mean and unit standard deviation per channel."""
    return _scaling(sample.mean(axis=1), sample.std(axis=1), None)


def fixed_scaling(
    sample: NDArray[np.float64],
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
) -> Scaling:
    """Subtract given means and divide by given deviations, whatever the image holds.

    Parameters
    ----------
    sample : array of float64, axes (C, values)
        Only its channel count is used.
    mean, std : tuple of float
        One value, or one per channel, in the image's intensity units.
    """
    channels = len(sample)
    offset = np.broadcast_to(np.asarray(mean, np.float64), (channels,))
    width = np.broadcast_to(np.asarray(std, np.float64), (channels,))
    return _scaling(offset, width, None)


NORMALISERS: Registry[Any] = Registry(
    "normaliser",
    {
        "percentile": "unet_studio.images.normalisation:percentile_scaling",
        "zscore": "unet_studio.images.normalisation:zscore_scaling",
        "fixed": "unet_studio.images.normalisation:fixed_scaling",
    },
    entry_points="unet_studio.normalisers",
)
