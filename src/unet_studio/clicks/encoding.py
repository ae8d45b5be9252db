"""What the click network sees: a crop, the previous mask, and disks where was clicked.

The layout is that of RITM (Sofiiuk, Petrov & Konushin, "Reviving Iterative Training with
Mask Guidance for Interactive Segmentation", ICIP 2022, arXiv:2102.06583): image, previous
mask, and one map of disks for each polarity; disks did better there than distances.
Training and use go through these same functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unet_studio.models.click_input import CLICK_CHANNELS, ClickInput

IMAGE_CHANNELS = 3
PREVIOUS, POSITIVE, NEGATIVE = 3, 4, 5
# Intensities beyond the percentiles are kept so far.
LOWEST, HIGHEST = -0.5, 1.5
# Differences that are smaller, relative to the values, come from rounding when scaling.
_ROUNDING = 1e-6

Points = NDArray[np.floating] | Sequence[Sequence[float]]


def three_channels(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the three channels that stand for an image of any number.

    One is repeated; two become themselves and their mean; of more than three the first
    three are taken.

    Parameters
    ----------
    pixels : array of float32, axes (C, Y, X)

    Returns
    -------
    array of float32, axes (3, Y, X)
    """
    count = len(pixels)
    if count == 1:
        return np.repeat(pixels, IMAGE_CHANNELS, axis=0)
    if count == 2:
        return np.concatenate([pixels, pixels.mean(axis=0, keepdims=True)])
    return pixels[:IMAGE_CHANNELS]


def scale_intensities(
    pixels: NDArray[np.float32], low: float = 1.0, high: float = 99.0
) -> NDArray[np.float32]:
    """Bring the joint percentiles of a crop to 0 and 1, and clamp far beyond.

    Parameters
    ----------
    pixels : array of float32, axes (C, Y, X)
        Values that are not finite become the low percentile of the others.
    low, high : float
        Percentiles, range [0, 100], of all channels together.

    Returns
    -------
    array of float32, axes (C, Y, X), range [-0.5, 1.5]
        0 everywhere if all pixels are alike, but for rounding.
    """
    finite = np.isfinite(pixels)
    known = pixels if finite.all() else pixels[finite]
    if not known.size:
        return np.zeros_like(pixels)
    bottom, top = np.percentile(known.astype(np.float64, copy=False), (low, high))
    if not top > bottom:
        # A few pixels may still stand out of an even crop.
        bottom, top = float(known.min()), float(known.max())
    if not top - bottom > _ROUNDING * max(abs(bottom), abs(top)):
        return np.zeros_like(pixels)
    filled = pixels if known is pixels else np.where(finite, pixels, np.float32(bottom))
    scaled = (filled - np.float32(bottom)) * np.float32(1.0 / (top - bottom))
    found: NDArray[np.float32] = np.clip(scaled, LOWEST, HIGHEST).astype(np.float32, copy=False)
    return found


def disks(points: Points, edge: int, radius: float) -> NDArray[np.float32]:
    """Return 1 on every pixel whose centre is within ``radius`` of a point, else 0.

    Parameters
    ----------
    points : array of float, axes (points, 2)
        Y, X in pixels of the crop; whole numbers are centres of pixels. Points outside
        count as far as their disks reach in.
    edge : int
    radius : float
        In pixels.

    Returns
    -------
    array of float32, axes (edge, edge)
    """
    canvas = np.zeros((edge, edge), np.float32)
    reach = int(np.ceil(radius)) + 1
    for y, x in np.asarray(points, np.float64).reshape(-1, 2).tolist():
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        bottom, right = min(edge, int(y) + reach + 2), min(edge, int(x) + reach + 2)
        if top >= bottom or left >= right:
            continue
        dy = np.arange(top, bottom, dtype=np.float64)[:, None] - y
        dx = np.arange(left, right, dtype=np.float64)[None] - x
        canvas[top:bottom, left:right][dy * dy + dx * dx <= radius * radius] = 1
    return canvas


def encode(
    pixels: NDArray[np.float32],
    previous: NDArray[np.floating] | None,
    positive: Points,
    negative: Points,
    spec: ClickInput,
) -> NDArray[np.float32]:
    """Put together what the network sees of one crop.

    Parameters
    ----------
    pixels : array of float32, axes (C, edge, edge)
        The crop at working scale, in the image's own intensities.
    previous : array of float, axes (edge, edge), range [0, 1], or None
        The mask so far as a probability; 0 outside the image. None: there is none yet.
    positive, negative : array of float, axes (points, 2)
        Y, X in pixels of the crop.
    spec : ClickInput

    Returns
    -------
    array of float32, axes (6, edge, edge)
        Red, green, blue; previous mask; positive disks; negative disks.
    """
    edge = spec.edge
    if pixels.shape[1:] != (edge, edge):
        raise ValueError(f"the crop has shape {pixels.shape}, not (C, {edge}, {edge})")
    encoded = np.zeros((CLICK_CHANNELS, edge, edge), np.float32)
    encoded[:IMAGE_CHANNELS] = scale_intensities(three_channels(pixels), spec.low, spec.high)
    if previous is not None:
        encoded[PREVIOUS] = previous
    encoded[POSITIVE] = disks(positive, edge, spec.radius)
    encoded[NEGATIVE] = disks(negative, edge, spec.radius)
    return encoded
