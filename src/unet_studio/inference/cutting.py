"""How an image is cut into tiles: as a recipe, a model and the memory there is want it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unet_studio.inference.tiling import TilePlan, fit_edges, plan_patches, plan_tiles, round_up
from unet_studio.models.per_axis import in_words, joined

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.recipe import Recipe, Tiling

# Of what is kept of a tile: beyond this, larger ones save next to no halo work.
_LARGEST_CORE = {2: 2048, 3: 192}
# On a CPU: of larger frames rows of chunks and long tables are in memory beside the tile, which
# is kept to so many bytes of activations, unless halos would then add a quarter to the work.
_LARGE_FRAME = 2**27  # pixels
_BESIDE_LARGE_FRAME = 1.4 * 2**30
_HALOS_PER_EDGE = 19
# Pixels that may change side at seams, as a share of all; None: not one.
_ACCEPTED_FLIPS = {"exact": None, "balanced": 1e-4, "fast": 1e-3}
# Real images differ from the texture on which flips were measured.
_FLIPS_SAFETY = 2.0


def is_exact(card: ModelCard, tiles: TilePlan) -> bool:
    """Whether tiles give the result of the whole image at once, to rounding."""
    needed = card.halos or (0,) * card.ndim
    return tiles.count == 1 or (card.tile_invariant and not _is_less(tiles.halos, needed))


def cut_tiles(
    recipe: Recipe,
    card: ModelCard,
    shape: list[int],
    budget: float,
    warnings: list[str],
    *,
    sparing: bool,
) -> TilePlan:
    """Cut one frame into tiles.

    Parameters
    ----------
    recipe : Recipe
    card : ModelCard
    shape : list of int
        ``[Z,] Y, X``, in pixels.
    budget : float
        Bytes that the activations of a batch may take.
    warnings : list of str
        Those of the cut are added.
    sparing : bool
        Spare memory beside large planes, as on a computer that is used for other things, too.

    Raises
    ------
    RecipeError
        If a setting can not work, such as a tile smaller than two halos.
    """
    exact = card.tile_invariant and card.halos is not None
    needed = card.halos if exact and card.halos is not None else _quarters(card.patches)
    tiling = recipe.tiling
    sparing = sparing and card.ndim == 2 and math.prod(shape) > _LARGE_FRAME
    room = _Room(budget, sparing)
    if card.overlap is not None and tiling.tile is None and tiling.halo is None:
        return plan_patches(shape, card.patches, card.overlap)  # as it is meant to be run
    if tiling.halo is not None:
        halos = [round_up(tiling.halo, stride) for stride in card.strides]
        tiles = _cut(tiling, card, shape, halos, room)
    elif exact and (accepted := _ACCEPTED_FLIPS[tiling.quality]) is not None:
        tiles = _cut_sparingly(tiling, card, shape, room, accepted)
    else:
        tiles = _cut(tiling, card, shape, needed, room)
    if tiles.count > 1 and not exact:
        warnings.append(
            f"The network {card.name!r} sees the whole image at once (its normalisation or "
            "attention does), so tiles can not reproduce that exactly. They overlap and are "
            "blended."
        )
    elif tiles.count > 1 and tiling.halo is not None and _is_less(tiles.halos, needed):
        warnings.append(
            f"The halo of {in_words(tiles.halo)} px is less than the {in_words(joined(needed))} "
            "px that this network sees: faint seams between tiles are possible."
        )
    return tiles


def _is_less(halos: Sequence[int], needed: Sequence[int]) -> bool:
    return any(halo < n for halo, n in zip(halos, needed, strict=True))


def _quarters(patches: Sequence[int]) -> tuple[int, ...]:
    return tuple(patch // 4 for patch in patches)


@dataclass(frozen=True)
class _Room:
    """For a tile: bytes of activations that there are, and whether to leave some of them."""

    budget: float
    sparing: bool

    def pixels(self, card: ModelCard, halos: Sequence[int]) -> float:
        most = self.budget / card.bytes_per_pixel
        if not self.sparing:
            return most
        enough = math.prod(_HALOS_PER_EDGE * halo for halo in halos)
        return min(most, max(_BESIDE_LARGE_FRAME / card.bytes_per_pixel, enough))


def _cut(
    tiling: Tiling, card: ModelCard, shape: list[int], halos: Sequence[int], room: _Room
) -> TilePlan:
    exact = card.tile_invariant and card.halos is not None
    strides = card.strides
    if tiling.tile is not None:
        edges = [tiling.tile] * len(shape)
    elif not exact:
        edges = [round_up(p, s) for p, s in zip(card.patches, strides, strict=True)]
    else:
        pairs = [(round_up(h, s), s) for h, s in zip(halos, strides, strict=True)]
        smallest = [max(2 * halo + stride, 2 * stride) for halo, stride in pairs]
        limits = [_LARGEST_CORE[card.ndim] + 2 * halo for halo, _ in pairs]
        edges = fit_edges(shape, room.pixels(card, halos), strides, smallest, limits)
    edges = [min(pair) for pair in zip(edges, card.tile_limit or edges, strict=True)]
    return plan_tiles(shape, edges, halos, strides, blend=not exact)


def _cut_sparingly(
    tiling: Tiling, card: ModelCard, shape: list[int], room: _Room, accepted: float
) -> TilePlan:
    """Cut with the smallest halo that is expected to change few enough pixels.

    Flips were measured along X. Axes along which the network sees as far get the
    same halo; others keep all their context.
    """
    full = card.halos or (0,) * card.ndim
    alike = [pair == (full[-1], card.strides[-1]) for pair in zip(full, card.strides, strict=True)]
    for halo, _ in card.seam_flips:
        halos = [halo if same else whole for same, whole in zip(alike, full, strict=True)]
        tiles = _cut(tiling, card, shape, halos, room)
        expected = expected_flips(card, tiles)
        if expected is not None and expected * _FLIPS_SAFETY <= accepted:
            return tiles
    return _cut(tiling, card, shape, full, room)  # not measured: exact


def expected_flips(card: ModelCard, tiles: TilePlan) -> float | None:
    """Return the expected share of pixels that change side at seams; None if not known."""
    if tiles.blend or card.halos is None:
        return None
    expected = 0.0
    for spans, n, halo, full in zip(tiles.axes, tiles.shape, tiles.halos, card.halos, strict=True):
        if halo >= full:
            continue  # exact
        per_pixel = [flips for measured, flips in card.seam_flips if measured <= halo]
        if not per_pixel or full != card.halos[-1]:
            return None
        expected += per_pixel[-1] * (len(spans) - 1) / n
    return expected
