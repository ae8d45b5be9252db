"""Turn integer labels into what a network is trained to output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import find_boundaries

# Objects of so many pixels and more count as they are.
TYPICAL_SIZE = 300
_SURROUNDINGS = 5  # pixels across
GAP_WEIGHT = 5.0
LARGEST_WEIGHT = 5.0


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
    deepest = np.ones(int(labels.max()) + 1)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
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


def object_weights(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return how much each pixel should count in the loss of the ``objects`` representation.

    A loss that counts pixels alike spends itself on the insides of large
    objects. Here pixels of small objects and of narrow gaps count more, as
    the weight map of Ronneberger et al. 2015 (arXiv:1505.04597, equation 2)
    does for gaps: those decide how many objects are found.

    Parameters
    ----------
    labels : array of int, axes (Y, X) or (Z, Y, X)
        Object ids; 0 is background.

    Returns
    -------
    array of float32, same shape, range 1 to :data:`LARGEST_WEIGHT`
    """
    sizes = np.bincount(labels.ravel()).astype(np.float64)
    per_object = np.sqrt(TYPICAL_SIZE / np.maximum(sizes, 1))
    per_object[0] = 1.0
    weights = ndimage.maximum_filter(per_object[labels], size=_SURROUNDINGS)
    beyond = int(labels.max()) + 1  # larger numbers do not survive the filter's arithmetic
    highest = ndimage.maximum_filter(labels, size=_SURROUNDINGS)
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, beyond), size=_SURROUNDINGS)
    between = (highest > 0) & (lowest != highest)
    weights = np.maximum(weights, np.where(between, GAP_WEIGHT, 1.0))
    return np.asarray(np.clip(weights, 1.0, LARGEST_WEIGHT), np.float32)
