"""Tile geometry in plain integers: what to read, what to keep, where it goes.

Two rules make tiles reproduce the whole image. Tile origins lie on multiples
of the network's stride, so that pooling windows coincide; and what is kept of
a tile is at least a halo (the receptive-field radius) away from every inner
side. Sides on the image's border need no halo: there the network's own padding
is what the whole image would have had, too.

"Whole image" means the image continued by reflection, at its end, to a multiple
of the stride.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from unet_studio.errors import RecipeError
from unet_studio.models.per_axis import PerAxis, joined, spread


@dataclass(frozen=True)
class Span:
    """One axis of a tile, in pixels of the image.

    Attributes
    ----------
    start, stop : int
        What is read. ``stop`` may lie beyond the image: that part is padding.
    keep_start, keep_stop : int
        What of it is kept; always inside the image.
    """

    start: int
    stop: int
    keep_start: int
    keep_stop: int

    @property
    def local(self) -> slice:
        """The kept part, relative to what was read."""
        return slice(self.keep_start - self.start, self.keep_stop - self.start)


@dataclass(frozen=True)
class Tile:
    """One piece of the image, a :class:`Span` per spatial axis."""

    spans: tuple[Span, ...]

    @property
    def read(self) -> tuple[slice, ...]:
        """Region to read; may reach beyond the image."""
        return tuple(slice(s.start, s.stop) for s in self.spans)

    @property
    def write(self) -> tuple[slice, ...]:
        """Region of the output that this tile fills."""
        return tuple(slice(s.keep_start, s.keep_stop) for s in self.spans)

    @property
    def local(self) -> tuple[slice, ...]:
        """The kept region, relative to the tile's own origin."""
        return tuple(s.local for s in self.spans)


@dataclass(frozen=True)
class TilePlan:
    """How one image (a plane, or a volume for 3D networks) is cut.

    Attributes
    ----------
    shape : tuple of int
        Spatial shape of the image, in pixels.
    tile_shape : tuple of int
        Shape of every tile, in pixels, halo included.
    halos : tuple of int
        Per axis, in pixels. With ``blend``, half the overlap of neighbours.
    blend : bool
        Tiles overlap and are averaged with a smooth weight, for networks that
        no halo makes exact. Then each tile keeps all that it read.
    axes : tuple of tuple of Span
        The spans along each axis; tiles are their product.
    """

    shape: tuple[int, ...]
    tile_shape: tuple[int, ...]
    halos: tuple[int, ...]
    blend: bool
    axes: tuple[tuple[Span, ...], ...]

    @property
    def halo(self) -> PerAxis:
        """The halo as one number where all axes have the same."""
        return joined(self.halos)

    @property
    def count(self) -> int:
        """Number of tiles."""
        count = 1
        for spans in self.axes:
            count *= len(spans)
        return count

    @property
    def pixels(self) -> int:
        """Pixels of all tiles, halos included."""
        return self.count * math.prod(self.tile_shape)

    @property
    def averages(self) -> bool:
        """Whether there are pixels that are the mean of several tiles."""
        return self.blend and self.count > 1

    @property
    def slab_axis(self) -> int:
        """The axis with most tiles: blended tiles are finished slab by slab along it."""
        counts = [len(spans) for spans in self.axes]
        return counts.index(max(counts))

    def tiles(self) -> list[Tile]:
        """Return all tiles, last axis fastest; with ``blend`` the slab axis is slowest."""
        tiles = [Tile(spans) for spans in itertools.product(*self.axes)]
        if self.blend:
            tiles.sort(key=lambda tile: tile.spans[self.slab_axis].start)
        return tiles


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def plan_axis(length: int, tile: int, halo: int, stride: int) -> tuple[Span, ...]:
    """Cut one axis into tiles of one size with exact cores.

    Parameters
    ----------
    length : int
        Of the image along this axis, in pixels.
    tile : int
        Largest tile to read, in pixels; a multiple of ``stride``.
    halo : int
        Context on inner sides, in pixels; a multiple of ``stride``.
    stride : int

    Raises
    ------
    RecipeError
        If nothing is left of a tile between two halos.
    """
    padded = round_up(length, stride)
    if padded <= tile:
        return (Span(0, padded, 0, length),)
    if tile <= 2 * halo:
        raise RecipeError(
            f"A tile of {tile} pixels leaves nothing between two halos of {halo}. Use a tile "
            f"of at least {2 * halo + stride} pixels, or a smaller halo."
        )
    count = -(-(padded - 2 * halo) // (tile - 2 * halo))
    # As many tiles as are necessary, but no larger than they need to be.
    tile = round_up(-(-(padded - 2 * halo) // count) + 2 * halo, stride)
    spans = []
    done = 0
    while done < length:
        start = max(0, min(done - halo, padded - tile))
        end = start + tile
        stop = length if end >= padded else end - halo
        spans.append(Span(start, end, done, min(stop, length)))
        done = stop
    return tuple(spans)


def plan_axis_blended(length: int, tile: int, overlap: int, stride: int) -> tuple[Span, ...]:
    """Cut one axis into evenly spread, overlapping tiles that keep all they read.

    Parameters
    ----------
    length, tile, stride : int
        As in :func:`plan_axis`.
    overlap : int
        Smallest overlap of neighbours, in pixels; less than ``tile``.
    """
    padded = round_up(length, stride)
    if padded <= tile:
        return (Span(0, padded, 0, length),)
    count = 1 + -(-(padded - tile) // (tile - overlap))
    steps = (padded - tile) // stride
    starts = [round(i * steps / (count - 1)) * stride for i in range(count)]
    return tuple(Span(s, s + tile, s, min(s + tile, length)) for s in starts)


def plan_tiles(
    shape: Sequence[int],
    tile: int | Sequence[int],
    halo: int | Sequence[int],
    stride: int | Sequence[int],
    *,
    blend: bool = False,
) -> TilePlan:
    """Cut an image into tiles.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape, in pixels.
    tile : int or sequence of int
        Largest edge of what is read at once, in pixels; rounded down to the
        stride, but at least one stride.
    halo : int or sequence of int
        Context needed around what is kept, in pixels; rounded up to the stride.
    stride : int or sequence of int
        Product of the network's poolings. All three: for all axes, or per axis.
    blend : bool
        Overlap by twice the halo and average, instead of keeping cores.

    Raises
    ------
    RecipeError
        If the tile is too small for the halo.
    """
    ndim = len(shape)
    strides = spread(stride, ndim)
    halos = tuple(round_up(h, s) for h, s in zip(spread(halo, ndim), strides, strict=True))
    cut = plan_axis_blended if blend else plan_axis
    axes = []
    for n, edge, context, step in zip(shape, spread(tile, ndim), halos, strides, strict=True):
        edge = max(step, edge // step * step)
        context = min(2 * context, edge - step) if blend else context
        axes.append(cut(n, edge, context, step))
    tile_shape = tuple(spans[0].stop - spans[0].start for spans in axes)
    return TilePlan(tuple(shape), tile_shape, halos, blend, tuple(axes))


def plan_patches(shape: Sequence[int], patch: Sequence[int], overlap: float) -> TilePlan:
    """Cut an image into patches of one size that overlap and are averaged.

    Their number and places are those of nnU-Net (``compute_steps_for_sliding_window``):
    as few as overlap by at least the share asked for, evenly spread, and none reaches
    beyond the image unless the image is smaller.

    Parameters
    ----------
    shape, patch : sequence of int
        Per axis, in pixels. Patches start anywhere: each is a small image of its own.
    overlap : float
        Smallest share of a patch, 0 to 1, that neighbours have in common.
    """
    axes = []
    for length, edge in zip(shape, patch, strict=True):
        beyond = max(0, length - edge)
        count = 1 + math.ceil(beyond / (edge * (1 - overlap)))
        starts = [round(beyond / max(1, count - 1) * i) for i in range(count)]
        axes.append(tuple(Span(s, s + edge, s, min(s + edge, length)) for s in starts))
    halos = tuple(int(edge * overlap / 2) for edge in patch)
    return TilePlan(tuple(shape), tuple(patch), halos, True, tuple(axes))


def fit_edges(
    shape: Sequence[int],
    pixels: float,
    stride: int | Sequence[int],
    smallest: int | Sequence[int],
    limit: int | Sequence[int],
) -> list[int]:
    """Share out a number of pixels over the axes of a tile.

    What a short axis does not need goes to the longer ones, so that a thin stack
    is cut into few, wide tiles.

    Parameters
    ----------
    shape : sequence of int
        Of the image, in pixels.
    pixels : float
        Most that a tile may hold.
    stride, smallest, limit : int or sequence of int
        What edges are multiples of, and their bounds where the image is longer; for
        all axes, or per axis.
    """
    ndim = len(shape)
    strides, least, most = spread(stride, ndim), spread(smallest, ndim), spread(limit, ndim)
    edges = [0] * len(shape)
    remaining = max(pixels, 1.0)
    by_length = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for done, axis in enumerate(by_length):
        fair = int(remaining ** (1 / (len(shape) - done)))
        step = strides[axis]
        edge = max(fair // step * step, least[axis])
        edge = min(edge, most[axis], round_up(shape[axis], step))
        edges[axis] = edge
        remaining = max(remaining / edge, 1.0)
    return edges
