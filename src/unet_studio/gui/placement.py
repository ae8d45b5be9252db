"""Where a layer's pixels lie in the world, and where those of its labels must lie.

napari places a layer by ``affine(rotate @ shear @ diag(scale) @ index + translate)``
and lines up layers of fewer dimensions with the *last* world dimensions. Labels
have no channel axis, so:

- a leading channel axis is dropped from every part of the transform;
- any other channel axis is kept with a length of 1, stretched over all
  channels. Dropping it would shift the axes before it by one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.layers import Layer
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Placement:
    """Transform of a labels layer, captured when a run starts.

    Attributes
    ----------
    scale, translate : array of float, one per dimension of the labels layer
    rotate, shear : array of float, (n, n)
    affine : array of float, (n + 1, n + 1)
    units : tuple
        napari's own unit objects, passed on unchanged.
    axis_labels : tuple of str
    inserted : int or None
        Dimension of length 1 that stands for the channels of the source.
    """

    scale: NDArray[np.float64]
    translate: NDArray[np.float64]
    rotate: NDArray[np.float64]
    shear: NDArray[np.float64]
    affine: NDArray[np.float64]
    units: tuple[Any, ...]
    axis_labels: tuple[str, ...]
    inserted: int | None = None

    def keywords(self) -> dict[str, Any]:
        """Return the keyword arguments of a napari layer."""
        return {
            "scale": self.scale,
            "translate": self.translate,
            "rotate": self.rotate,
            "shear": self.shear,
            "affine": self.affine,
            "units": self.units,
            "axis_labels": self.axis_labels,
        }

    def arrange(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """Return labels (source axes without C) with the dimensions of the layer."""
        return labels if self.inserted is None else np.expand_dims(labels, self.inserted)

    def without_channels(self, labels: Any) -> Any:
        """Return what such a layer holds in the axes of the source without C: a view."""
        if self.inserted is None:
            return labels
        return labels[(slice(None),) * self.inserted + (0,)]


def placement_of(
    layer: Layer,
    axes: str,
    channels: int = 1,
    level_factors: tuple[float, ...] | None = None,
) -> Placement:
    """Return the placement of labels that lie exactly on an image layer.

    Parameters
    ----------
    layer : napari layer
    axes : str
        One letter per dimension of the layer; the colour axis of an RGB layer
        is not a dimension of it and is left out.
    channels : int
        Length of the channel axis, if ``axes`` holds one.
    level_factors : tuple of float, optional
        How many pixels of the finest level one pixel of the labels covers
        along each dimension (multiscale images).
    """
    ndim = int(layer.ndim)
    stretch = np.ones(ndim) if level_factors is None else np.asarray(level_factors, float)
    rotate = _square(layer.rotate, ndim)
    shear = _shear_matrix(layer.shear, ndim)
    affine = np.asarray(layer.affine, float)
    scale = np.asarray(layer.scale, float)
    channel = axes.find("C")
    dropped = channel == 0 and all(
        _decoupled(matrix, 0) for matrix in (rotate, shear, affine[:-1, :-1])
    )
    if channel >= 0 and not dropped:
        stretch[channel] = channels
    # One coarse pixel covers `stretch` fine ones: its centre is in their middle.
    middle = rotate @ shear @ (scale * (stretch - 1) / 2)
    placement = Placement(
        scale * stretch,
        np.asarray(layer.translate, float) + middle,
        rotate,
        shear,
        affine,
        tuple(getattr(layer, "units", ()) or ()),
        tuple(getattr(layer, "axis_labels", ()) or ()),
        channel if channel >= 0 and not dropped else None,
    )
    return _without_first(placement) if dropped else placement


def world_steps(layer: Layer) -> NDArray[np.float64]:
    """Return the length in the world of one step along each dimension of a layer."""
    ndim = int(layer.ndim)
    linear = (
        np.asarray(layer.affine, float)[:-1, :-1]
        @ _square(layer.rotate, ndim)
        @ _shear_matrix(layer.shear, ndim)
        @ np.diag(np.asarray(layer.scale, float))
    )
    return np.sqrt((linear**2).sum(axis=0))


def _without_first(placement: Placement) -> Placement:
    return Placement(
        placement.scale[1:],
        placement.translate[1:],
        placement.rotate[1:, 1:],
        placement.shear[1:, 1:],
        placement.affine[1:, 1:],
        placement.units[1:],
        placement.axis_labels[1:],
    )


def _decoupled(matrix: NDArray[np.float64], index: int) -> bool:
    """Whether a dimension neither feeds into others nor draws from them."""
    off = np.arange(len(matrix)) != index
    return not matrix[index, off].any() and not matrix[off, index].any()


def _square(rotate: Any, ndim: int) -> NDArray[np.float64]:
    matrix = np.asarray(rotate, float)
    return matrix if matrix.shape == (ndim, ndim) else np.eye(ndim)


def _shear_matrix(shear: Any, ndim: int) -> NDArray[np.float64]:
    """Return napari's shear (a vector of the upper triangle, or a matrix) as a matrix."""
    values = np.asarray(shear, float)
    if values.ndim == 2:
        return values
    matrix = np.eye(ndim)
    matrix[np.triu_indices(ndim, 1)] = values
    return matrix
