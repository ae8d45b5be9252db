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
from collections.abc import Sequence
from dataclasses import dataclass

from unet_studio.errors import RecipeError


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
    halo : int
        In pixels. With ``blend``, half the overlap of neighbours.
    blend : bool
        Tiles overlap and are averaged with a smooth weight, for networks that
        no halo makes exact. Then each tile keeps all that it read.
    axes : tuple of tuple of Span
        The spans along each axis; tiles are their product.
    """

    shape: tuple[int, ...]
    tile_shape: tuple[int, ...]
    halo: int
    blend: bool
    axes: tuple[tuple[Span, ...], ...]

    @property
    def count(self) -> int:
        """Number of tiles."""
        count = 1
        for spans in self.axes:
            count *= len(spans)
        return count

    def tiles(self) -> list[Tile]:
        """Return all tiles, last axis fastest."""
        return [Tile(spans) for spans in itertools.product(*self.axes)]


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
    halo: int,
    stride: int,
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
    halo : int
        Context needed around what is kept, in pixels; rounded up to the stride.
    stride : int
        Product of the network's poolings.
    blend : bool
        Overlap by twice the halo and average, instead of keeping cores.

    Raises
    ------
    RecipeError
        If the tile is too small for the halo.
    """
    edges = [tile] * len(shape) if isinstance(tile, int) else list(tile)
    edges = [max(stride, edge // stride * stride) for edge in edges]
    halo = round_up(halo, stride)
    cut = plan_axis_blended if blend else plan_axis
    axes = []
    for n, edge in zip(shape, edges, strict=True):
        context = min(2 * halo, edge - stride) if blend else halo
        axes.append(cut(n, edge, context, stride))
    tile_shape = tuple(spans[0].stop - spans[0].start for spans in axes)
    return TilePlan(tuple(shape), tile_shape, halo, blend, tuple(axes))
