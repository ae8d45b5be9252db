"""Bring images from one voxel size to another, thick slices treated apart.

The rules are those of nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z,
and ``preprocessing/resampling/default_resampling.py`` of its version 2): pixels are
squares with their value at the centre, borders are continued, and where one axis is
much coarser than the others, planes are resized on their own and then repeated, so
that no value is made up between slices that lie far apart.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Coarsest step over finest step, from which on slices are treated apart.
ANISOTROPY = 3.0


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], target: Sequence[float]
) -> tuple[int, ...]:
    """Return the shape of an image at another voxel size, at least 1 along each axis."""
    return tuple(
        max(1, round(old / new * n)) for n, old, new in zip(shape, spacing, target, strict=True)
    )


def separate_axis(
    spacing: Sequence[float],
    target: Sequence[float],
    separate: bool | None = None,
    threshold: float = ANISOTROPY,
) -> int | None:
    """Return the axis whose slices are resized on their own; None if there is none.

    Parameters
    ----------
    spacing, target : sequence of float
        Voxel sizes before and after, in one unit.
    separate : bool or None
        Never, always (along the coarsest axis before), or where one of the two is
        anisotropic.
    threshold : float
        Coarsest over finest step that counts as anisotropic.
    """
    if separate is None:
        judged = next((s for s in (spacing, target) if max(s) / min(s) > threshold), None)
    else:
        judged = spacing if separate else None
    if judged is None:
        return None
    coarsest = [axis for axis, step in enumerate(judged) if step == max(judged)]
    # Two coarse axes: the third would be the one apart, and that one is fine.
    return coarsest[0] if len(coarsest) == 1 else None


def resample(
    image: NDArray[np.floating],
    shape: Sequence[int],
    axis: int | None,
    *,
    order: int,
    order_along: int = 0,
) -> NDArray[np.float32]:
    """Resize a volume.

    Parameters
    ----------
    image : array of float, axes (C, Z, Y, X)
    shape : sequence of int
        The spatial shape wanted.
    axis : int or None
        The spatial axis whose slices are resized on their own, as of
        :func:`separate_axis`.
    order : int
        Of the splines, 0 to 5; with ``axis``, within slices.
    order_along : int
        Of the splines along ``axis``.

    Returns
    -------
    array of float32, axes (C, Z, Y, X)
        The image itself if it has this shape.
    """
    shape = tuple(shape)
    if image.shape[1:] == shape:
        return image.astype(np.float32, copy=False)
    result = np.empty((len(image), *shape), np.float32)
    for channel, volume in enumerate(image):
        values = volume.astype(np.float64)
        if axis is None:
            result[channel] = _resize(values, shape, order)
        else:
            result[channel] = _by_slices(values, shape, axis, order, order_along)
    return result


def _by_slices(
    volume: NDArray[np.float64], shape: tuple[int, ...], axis: int, order: int, order_along: int
) -> NDArray[np.float64]:
    plane = shape[:axis] + shape[axis + 1 :]
    slices = np.moveaxis(volume, axis, 0)
    resized = np.stack([_resize(one, plane, order) for one in slices])
    wanted = shape[axis]
    if wanted != len(resized):
        if order_along == 0:
            centres = (np.arange(wanted) + 0.5) * (len(resized) / wanted)
            resized = resized[np.minimum(centres.astype(int), len(resized) - 1)]
        else:
            resized = _resize(resized, (wanted, *plane), order_along)
    return np.moveaxis(resized, 0, axis)


def _resize(image: NDArray[np.float64], shape: tuple[int, ...], order: int) -> NDArray[np.float64]:
    from skimage.transform import resize

    if image.shape == shape:
        return image
    resized: NDArray[np.float64] = resize(image, shape, order, mode="edge", anti_aliasing=False)
    return resized
