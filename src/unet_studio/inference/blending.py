"""Weighted averaging of overlapping tiles, for networks that no halo makes exact.

The window is a Gaussian of an eighth of the tile's edge, as nnU-Net uses
(Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.inference.tiling import Tile, TilePlan

_SIGMA_PER_EDGE = 1 / 8
# Never zero: at the image's border the corner of one tile is all there is. Far below any
# weight of a profile, or tiles would count the same there, however far off their centres.
_SMALLEST_WEIGHT = 1e-12


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
        offsets = np.arange(n) - n // 2  # nnU-Net's centre
        profile = np.exp(-0.5 * (offsets / (n * _SIGMA_PER_EDGE)) ** 2)
        window = window * profile.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.maximum(window, _SMALLEST_WEIGHT).astype(np.float32)


@dataclass(frozen=True)
class Slab:
    """A part of a frame, between two planes across one axis, that no tile will change again.

    Attributes
    ----------
    region : tuple of slice
        Spatial, [Z,] Y, X.
    mean : array of float32, axes (C, [Z,] Y, X)
    """

    region: tuple[slice, ...]
    mean: NDArray[np.float32]


class BlendedSlabs:
    """Weighted sums of one frame while its tiles come in, finished slab by slab.

    Tiles have to come in the order of :meth:`~unet_studio.inference.tiling.TilePlan.tiles`:
    ordered by where they begin along the plan's slab axis. What lies before the
    tile that begins next is complete, so no more than one tile's length along that
    axis is in memory, however long the frame is.

    Parameters
    ----------
    plan : TilePlan
    channels : int
        Of the output.
    """

    def __init__(self, plan: TilePlan, channels: int) -> None:
        self._plan, self._axis = plan, plan.slab_axis
        self._window = blend_window(plan.tile_shape)
        starts = [span.keep_start for span in plan.axes[self._axis]]
        self._ends = [*starts[1:], plan.shape[self._axis]]
        self._in_row = plan.count // len(starts)
        self._seen = self._start = 0
        shape = list(plan.shape)
        shape[self._axis] = min(plan.tile_shape[self._axis], shape[self._axis])
        self._values = np.zeros((channels, *shape), np.float32)
        self._weights = np.zeros(shape, np.float32)

    def add(self, tile: Tile, values: NDArray[np.floating[Any]]) -> Slab | None:
        """Add what a tile keeps, values (C, [Z,] Y, X); return the slab that it completes.

        The slab's values are valid until the next call. With a frame's last tile all
        is set back for the next frame.
        """
        place = list(tile.write)
        along = place[self._axis]
        place[self._axis] = slice(along.start - self._start, along.stop - self._start)
        window = self._window[tile.local]
        self._values[(slice(None), *place)] += values * window
        self._weights[tuple(place)] += window
        self._seen += 1
        if self._seen % self._in_row:
            return None
        return self._finish(self._ends[self._seen // self._in_row - 1])

    def _finish(self, end: int) -> Slab:
        """Take out what lies before ``end`` and move the rest to the front."""
        done = end - self._start
        mean = self._part(self._values, 0, done) / self._part(self._weights, 0, done)
        for sums in (self._values, self._weights):
            length = sums.shape[self._axis - len(self._plan.shape)]
            rest = length - done
            # Forward, piece by piece, as the two places may overlap.
            for begin in range(0, rest, done):
                stop = min(begin + done, rest)
                self._part(sums, begin, stop)[...] = self._part(sums, begin + done, stop + done)
            self._part(sums, rest, length)[...] = 0
        region = [slice(0, n) for n in self._plan.shape]
        region[self._axis] = slice(self._start, end)
        self._start = end
        if self._seen == self._plan.count:
            self._seen = self._start = 0
        return Slab(tuple(region), mean)

    def _part(self, sums: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        behind = len(self._plan.shape) - self._axis - 1
        key: tuple[Any, ...] = (..., slice(start, stop), *(slice(None),) * behind)
        part: NDArray[np.float32] = sums[key]
        return part
