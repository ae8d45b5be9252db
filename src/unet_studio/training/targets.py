"""Turn integer labels into what a network is trained to output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import find_boundaries

OBJECT_CHANNELS = ("foreground", "boundary", "distance")


def normalised_distance(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Distance of each object pixel to its object's edge, 1 at the deepest pixel.

    Being relative to the object's own size, a peak is 1 for a small nucleus and
    for a large one, so that one seed threshold serves both.

    Parameters
    ----------
    labels : array of int, axes (Y, X) or (Z, Y, X)
        Object ids; 0 is background.

    Returns
    -------
    array of float32, same shape, range [0, 1]
    """
    if not labels.any():
        return np.zeros(labels.shape, np.float32)
    # One-pixel cuts between touching objects: one transform serves them all.
    cut = find_boundaries(labels, mode="inner", connectivity=1)
    inside = (labels > 0) & ~cut
    if inside.all():  # one object fills the image: no edge to measure from
        return np.ones(labels.shape, np.float32)
    depth = ndimage.distance_transform_edt(inside) + 1.0
    depth[labels == 0] = 0.0
    ids = np.arange(int(labels.max()) + 1)
    deepest = np.asarray(ndimage.maximum(depth, labels, ids), dtype=np.float64)
    deepest[0] = 1.0
    deepest[deepest == 0] = 1.0
    return np.asarray(depth / deepest[labels], dtype=np.float32)


def object_targets(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Targets of the ``objects`` representation.

    Parameters
    ----------
    labels : array of int, axes (Y, X) or (Z, Y, X)
        Object ids; 0 is background.

    Returns
    -------
    array of float32, axes (3, [Z,] Y, X), range [0, 1]
        Foreground, boundary (pixels on either side of an edge between an
        object and anything else) and normalised distance.
    """
    return np.stack(
        [
            (labels > 0).astype(np.float32),
            find_boundaries(labels, mode="thick", connectivity=1).astype(np.float32),
            normalised_distance(labels),
        ]
    )
