"""A picture of labels on their image, for people who would rather look than read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

from unet_studio.images.atomic import atomic_file

_FILL = 0.28
# Steps of the golden angle around the colour wheel keep neighbours apart.
_GOLDEN = 0.618034


def object_colours(count: int) -> NDArray[np.float32]:
    """Return ``count`` distinct, bright colours, axes (count, 3), range [0, 1]."""
    hue = (np.arange(count) * _GOLDEN) % 1.0
    wheel = np.stack(
        [np.abs(((hue + shift) % 1.0) * 6 - 3) - 1 for shift in (0, 2 / 3, 1 / 3)], -1
    )
    return np.asarray(0.25 + 0.75 * np.clip(wheel, 0, 1), np.float32)


def to_display(image: NDArray[Any]) -> NDArray[np.float32]:
    """Stretch an image (C, Y, X) of one or three channels to RGB (Y, X, 3) in [0, 1]."""
    rgb = np.moveaxis(image[:3] if image.shape[0] >= 3 else image[:1], 0, -1).astype(np.float32)
    finite = rgb[np.isfinite(rgb)]
    low, high = np.percentile(finite, [0.2, 99.8]) if finite.size else (0.0, 1.0)
    rgb = np.clip((np.nan_to_num(rgb) - low) / max(high - low, 1e-12), 0, 1)
    return np.asarray(np.broadcast_to(rgb, (*rgb.shape[:2], 3)), np.float32)


def paint_objects(
    plain: NDArray[np.float32], ids: NDArray[np.integer[Any]]
) -> NDArray[np.float32]:
    """Tint objects and draw bright lines around them.

    Parameters
    ----------
    plain : array of float, axes (Y, X, 3), range [0, 1]
    ids : array of int, axes (Y, X)

    Returns
    -------
    array of float, as ``plain``
        A new one.
    """
    colours = object_colours(int(ids.max(initial=0)) + 1)[ids]
    drawn = plain.copy()
    inside = ids > 0
    drawn[inside] = (1 - _FILL) * drawn[inside] + _FILL * colours[inside]
    edge = find_boundaries(ids, mode="inner")
    drawn[edge] = colours[edge]
    return drawn


def draw_overlay(image: NDArray[Any], labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """Draw tinted objects with bright outlines beside the bare image.

    Parameters
    ----------
    image : array, axes (C, Y, X)
        One plane; grey or RGB.
    labels : array of int, axes (Y, X)

    Returns
    -------
    array of uint8, axes (Y, 2 X + gap, 3)
    """
    zoom = max(1, round(768 / max(labels.shape)))
    plain = np.kron(to_display(image), np.ones((zoom, zoom, 1), np.float32))
    ids = np.kron(labels, np.ones((zoom, zoom), labels.dtype))
    drawn = paint_objects(plain, ids)
    gap = np.ones((plain.shape[0], 4 * zoom, 3), np.float32)
    return np.asarray(np.concatenate([plain, gap, drawn], axis=1) * 255, np.uint8)


def write_overlay(image: NDArray[Any], labels: NDArray[np.integer[Any]], path: Path) -> Path:
    """Write :func:`draw_overlay` as a PNG.

    Raises
    ------
    OutputError
        If the file can not be written.
    """
    from PIL import Image

    with atomic_file(path) as stream:
        Image.fromarray(draw_overlay(image, labels)).save(stream, format="PNG")
    return path
