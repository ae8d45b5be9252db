"""Layers of napari: images for them, and what is compared."""

from __future__ import annotations

import hashlib

import numpy as np


def blobs(shape=(64, 80), seed=0):
    """A dark image with bright discs (in the last two dimensions of every plane)."""
    rng = np.random.default_rng(seed)
    image = np.zeros(shape, np.uint8)
    rows, columns = np.indices(shape[-2:])
    for row, column in ((16, 20), (44, 30), (30, 60)):
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 64
        image[..., disc] = 200
    return image + rng.integers(0, 5, shape, dtype=np.uint8)


def discs(places, shape=(96, 104), seed=0):
    """A dark image with bright discs of radius 11 at some places of every plane."""
    image = np.random.default_rng(seed).integers(0, 25, shape, dtype=np.uint8)
    rows, columns = np.indices(shape[-2:])
    for row, column in places:
        image[..., (rows - row) ** 2 + (columns - column) ** 2 < 121] += 180
    return image


def fingerprint(layer):
    data = layer.data[0] if layer.multiscale else layer.data
    parts = (layer.scale, layer.translate, layer.rotate, layer.shear, np.asarray(layer.affine))
    return (
        hashlib.sha1(np.ascontiguousarray(data).tobytes()).hexdigest(),
        *(np.asarray(part).tobytes() for part in parts),
        tuple(map(str, layer.units)),
        repr(dict(layer.metadata)),
    )


def plain(layer):
    """Return the layer itself, not what stands before it for plugins."""
    return getattr(layer, "__wrapped__", layer)
