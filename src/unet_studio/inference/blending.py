"""Weighted averaging of overlapping tiles, for networks that no halo makes exact.

The window is a Gaussian of an eighth of the tile's edge, as nnU-Net uses
(Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGMA_PER_EDGE = 1 / 8
# Never zero: at the image's border the corner of one tile is all there is.
_SMALLEST_WEIGHT = 1e-3


def blend_window(shape: Sequence[int]) -> NDArray[np.float32]:
    """Return the weight of each pixel of a tile.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the tile, in pixels.

    Returns
    -------
    array of float32, of that shape, range (0, 1]
    """
    window = np.ones((1,) * len(shape), np.float32)
    for axis, n in enumerate(shape):
        offsets = np.arange(n) - (n - 1) / 2
        profile = np.exp(-0.5 * (offsets / (n * _SIGMA_PER_EDGE)) ** 2)
        window = window * profile.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.maximum(window, _SMALLEST_WEIGHT).astype(np.float32)


class BlendedSum:
    """Weighted sums of one frame while its tiles come in.

    Parameters
    ----------
    shape : sequence of int
        Of the output, axes (C, [Z,] Y, X).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.tiles = 0
        self._values = np.zeros(shape, np.float32)
        self._weights = np.zeros(shape[1:], np.float32)

    def add(
        self,
        region: tuple[slice, ...],
        values: NDArray[np.floating[Any]],
        window: NDArray[np.float32],
    ) -> None:
        """Add one tile: values (C, ...) into ``region``, weighted by ``window``."""
        self._values[region] += values * window
        self._weights[region[1:]] += window
        self.tiles += 1

    def mean(self) -> NDArray[np.float32]:
        """Return the weighted mean, axes (C, [Z,] Y, X). The sums are gone then."""
        self._values /= self._weights  # in place: a frame may be all that memory holds
        return self._values
