"""The plan of a run: a recipe resolved against an image, before torch is imported.

It says how many tiles there will be, on which device, how much memory they
will need, and what the user should know, while nothing has been computed yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unet_studio.axes import AXIS_WORDS, Axes
from unet_studio.errors import AxesError
from unet_studio.images.limits import readable_size
from unet_studio.images.normalisation import check_normalisation
from unet_studio.images.volume import VolumeInfo
from unet_studio.inference.channels import ChannelMap, map_channels
from unet_studio.inference.devices import free_memory, likely_device
from unet_studio.inference.precision import BYTES, likely_precision
from unet_studio.inference.tiling import TilePlan, plan_tiles, round_up
from unet_studio.models.card import ModelCard
from unet_studio.recipe import Recipe, Tiling

# Of what is free, so much may go into the activations of one batch of tiles.
_MEMORY_SHARE = 0.35
_STREAM_ABOVE = 0.7  # of the free memory
_MEMORY_FLOOR = 256 * 2**20
# Of what is kept of a tile: beyond this, larger ones save next to no halo work.
_LARGEST_CORE = {2: 2048, 3: 192}
_LARGEST_BATCH = 16
_CPU_ACTIVATION_LIMIT = 3 * 2**30
_UNKNOWN_GPU_LIMIT = 3 * 2**30
# Pixels that may change side at seams, as a share of all; None: not one.
_ACCEPTED_FLIPS = {"exact": None, "balanced": 1e-4, "fast": 1e-3}
# Real images differ from the texture on which flips were measured.
_FLIPS_SAFETY = 2.0
# Probabilities are kept as float16; the objects step works on one frame with
# about this many bytes per pixel (measured on the watershed).
PROBABILITY_BYTES = 2
OBJECTS_BYTES_PER_PIXEL = 40
_LABEL_BYTES = 4
# Of an image that goes through the disk, objects are made in blocks of about this size.
OBJECTS_BLOCK_PIXELS = 2048 * 2048


@dataclass(frozen=True)
class RunPlan:
    """What a run will do.

    Attributes
    ----------
    recipe : Recipe
    card : ModelCard
    info : VolumeInfo
    channel_map : ChannelMap
    tiles : TilePlan
        Of one frame.
    frames : int
        Images the network sees: planes (2D networks) or volumes (3D).
    batch : int
        Tiles per forward pass.
    device : str
        Where it will probably run.
    precision : str
        What the network will probably compute in.
    memory_bytes : int
        Forecast of the peak of the computer's memory, above what the process uses already.
    device_bytes : int
        The same for the GPU's memory; 0 on a CPU.
    available_bytes : int or None
        Free memory of the computer; None if unknown.
    warnings : tuple of str
    """

    recipe: Recipe
    card: ModelCard
    info: VolumeInfo
    channel_map: ChannelMap
    tiles: TilePlan
    frames: int
    batch: int
    device: str
    precision: str
    memory_bytes: int
    device_bytes: int
    available_bytes: int | None
    warnings: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the image that are read."""
        return self.channel_map.channels

    @property
    def tile_count(self) -> int:
        """Tiles over all frames."""
        return self.tiles.count * self.frames

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Shape of a tile, halo included, in pixels."""
        return self.tiles.tile_shape

    @property
    def halo(self) -> int:
        """Context around what is kept of a tile, in pixels."""
        return self.tiles.halo

    @property
    def exact(self) -> bool:
        """Whether the result is that of the whole image at once, to rounding."""
        if self.tiles.count == 1:
            return True
        return self.card.tile_invariant and self.halo >= (self.card.halo or 0)

    @property
    def expected_flips(self) -> float | None:
        """Share of the pixels that seams are expected to change; None if not known."""
        return 0.0 if self.exact else _expected_flips(self.card, self.tiles)

    @property
    def needs_streaming(self) -> bool:
        """Whether the result had better go through the disk than be held in memory."""
        free = self.available_bytes
        return free is not None and self.memory_bytes > _STREAM_ABOVE * free

    @property
    def output_axes(self) -> Axes:
        """Axes of the labels: those of the image without channels, in its order."""
        axes = self.info.axes
        return axes.without("C") if "C" in axes else axes

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the labels."""
        return tuple(self.info.length(a) for a in self.output_axes.names)

    def summary(self) -> str:
        """Return the plan in one line for the user."""
        count = self.tile_count
        shape = " × ".join(str(n) for n in self.tile_shape)
        text = f"{count} tile{'s' * (count != 1)} of {shape} px on {self.device}"
        if self.precision != "float32":
            text += f" in {self.precision}"
        if self.recipe.flips:
            text += f", each in {2**self.card.ndim} mirror images"
        text += ", about "
        text += readable_size(self.memory_bytes)
        if self.available_bytes is not None:
            text += f" of {readable_size(self.available_bytes)} free"
        if self.device_bytes:
            text += f", and {readable_size(self.device_bytes)} on the GPU"
        return text


def spatial_axes(card: ModelCard) -> str:
    """Return the axes that the network works in."""
    return "ZYX" if card.ndim == 3 else "YX"


def resolve(
    recipe: Recipe, card: ModelCard, info: VolumeInfo, *, streamed: bool = False
) -> RunPlan:
    """Resolve a recipe against an image.

    Parameters
    ----------
    recipe : Recipe
    card : ModelCard
        Of the recipe's model.
    info : VolumeInfo
    streamed : bool
        Results go through the disk (:mod:`unet_studio.streaming`): the forecast is
        that of tiles and blocks alone.

    Raises
    ------
    AxesError
        If the image lacks an axis or channels that the model needs.
    RecipeError
        If a setting can not work, such as a tile smaller than two halos.
    """
    axes = spatial_axes(card)
    missing = [a for a in axes if a not in info.axes]
    if missing:
        raise AxesError(
            f"The model {card.name!r} works in three dimensions, but {info.name!r} (axes "
            f"{info.axes.names}) has no {AXIS_WORDS[missing[0]]} axis. Choose a 2D model."
        )
    check_normalisation(recipe.normalisation or card.normalisation)
    channel_map = map_channels(recipe.channels, card, info)
    device = likely_device(recipe.device)
    available = free_memory(device)
    budget = _activation_budget(device, available)
    warnings: list[str] = []
    tiles = _plan(recipe, card, [info.length(a) for a in axes], budget, warnings)
    frames = math.prod(info.length(a) for a in "TZ" if a not in axes)
    batch = _batch(recipe, card, tiles, frames, device, budget)
    free = free_memory("cpu")
    precision = likely_precision(card, device, recipe.precision)
    memory, on_disk, on_device = _forecast(
        card, info, tiles, batch, device, BYTES[precision], flips=recipe.flips
    )
    memory = on_disk if streamed else memory
    warnings += _shortage("of memory", memory, free)
    if on_device:
        warnings += _shortage(f"on {device}", on_device, available)
    if channel_map.luma:
        warnings.append("The model takes one grey channel: red, green and blue are mixed.")
    return RunPlan(
        recipe, card, info, channel_map, tiles, frames, batch, device, precision, memory,
        on_device, free, tuple(warnings),
    )  # fmt: skip


def _activation_budget(device: str, available: int | None) -> float:
    if available is None:
        return _UNKNOWN_GPU_LIMIT
    budget = max(_MEMORY_SHARE * available, _MEMORY_FLOOR)
    # Larger tiles than this do not run faster on a CPU, they only use its memory.
    return min(budget, _CPU_ACTIVATION_LIMIT) if device == "cpu" else budget


def _plan(
    recipe: Recipe, card: ModelCard, shape: list[int], budget: float, warnings: list[str]
) -> TilePlan:
    exact = card.tile_invariant and card.halo is not None
    needed = card.halo if exact and card.halo is not None else card.patch // 4
    tiling = recipe.tiling
    if tiling.halo is not None:
        tiles = _cut(tiling, card, shape, round_up(tiling.halo, card.stride), budget)
    elif exact and (accepted := _ACCEPTED_FLIPS[tiling.quality]) is not None:
        tiles = _cut_sparingly(tiling, card, shape, budget, accepted)
    else:
        tiles = _cut(tiling, card, shape, needed, budget)
    if tiles.count > 1 and not exact:
        warnings.append(
            f"The network {card.name!r} sees the whole image at once (its normalisation or "
            "attention does), so tiles can not reproduce that exactly. They overlap and are "
            "blended."
        )
    elif tiles.count > 1 and tiles.halo < needed and tiling.halo is not None:
        warnings.append(
            f"The halo of {tiles.halo} px is less than the {needed} px that this network sees: "
            "faint seams between tiles are possible."
        )
    return tiles


def _cut(tiling: Tiling, card: ModelCard, shape: list[int], halo: int, budget: float) -> TilePlan:
    exact = card.tile_invariant and card.halo is not None
    if tiling.tile is not None:
        edges = [tiling.tile] * len(shape)
    elif not exact:
        edges = [round_up(card.patch, card.stride)] * len(shape)
    else:
        smallest = max(2 * halo + card.stride, 2 * card.stride)
        limit = _LARGEST_CORE[card.ndim] + 2 * round_up(halo, card.stride)
        edges = fit_edges(shape, budget / card.bytes_per_pixel, card.stride, smallest, limit)
    return plan_tiles(shape, edges, halo, card.stride, blend=not exact)


def _cut_sparingly(
    tiling: Tiling, card: ModelCard, shape: list[int], budget: float, accepted: float
) -> TilePlan:
    """Cut with the smallest halo that is expected to change few enough pixels."""
    for halo, _ in card.seam_flips:
        tiles = _cut(tiling, card, shape, halo, budget)
        expected = _expected_flips(card, tiles)
        if expected is not None and expected * _FLIPS_SAFETY <= accepted:
            return tiles
    return _cut(tiling, card, shape, card.halo or 0, budget)  # not measured: exact


def _expected_flips(card: ModelCard, tiles: TilePlan) -> float | None:
    """Return the expected share of pixels that change side at the seams of a plan."""
    per_pixel = [flips for halo, flips in card.seam_flips if halo <= tiles.halo]
    if not per_pixel or tiles.blend:
        return None
    seams = sum((len(spans) - 1) / n for spans, n in zip(tiles.axes, tiles.shape, strict=True))
    return per_pixel[-1] * seams


def _batch(
    recipe: Recipe, card: ModelCard, tiles: TilePlan, frames: int, device: str, budget: float
) -> int:
    if recipe.tiling.batch is not None:
        return recipe.tiling.batch
    if device == "cpu":
        return 1  # batches of tiles are no faster there, and slower if they are large
    fitting = int(budget // (card.bytes_per_pixel * math.prod(tiles.tile_shape)))
    return max(1, min(fitting, _LARGEST_BATCH, tiles.count * frames))


def fit_edges(
    shape: Sequence[int], pixels: float, stride: int, smallest: int, limit: int
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
    stride, smallest, limit : int
        What edges are multiples of, and their bounds where the image is longer.
    """
    edges = [0] * len(shape)
    remaining = max(pixels, 1.0)
    by_length = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for done, axis in enumerate(by_length):
        fair = int(remaining ** (1 / (len(shape) - done)))
        edge = min(max(fair // stride * stride, smallest), limit, round_up(shape[axis], stride))
        edges[axis] = edge
        remaining = max(remaining / edge, 1.0)
    return edges


def _shortage(where: str, needed: int, free: int | None) -> list[str]:
    if free is None or needed <= free:
        return []
    return [
        f"This needs about {readable_size(needed)} {where}, but {readable_size(free)} are free. "
        "Close other programs, segment a part of the image, or go through the disk "
        "(unet-studio segment --through-disk)."
    ]


def _forecast(
    card: ModelCard,
    info: VolumeInfo,
    tiles: TilePlan,
    batch: int,
    device: str,
    width: int,
    *,
    flips: bool,
) -> tuple[int, int, int]:
    """Return the forecast peaks in bytes: of the computer, the same streamed, of the GPU."""
    voxels = math.prod(info.length(a) for a in "TZYX")
    frame = voxels // info.length("T")
    tile = math.prod(tiles.tile_shape) * batch
    network = 4 * card.parameters
    kept = voxels * card.out_channels * PROBABILITY_BYTES
    summed = 0
    if tiles.blend and tiles.count > 1:  # float32 sums of one frame
        summed = math.prod(tiles.shape) * (card.out_channels + 1) * 4
    labelling = frame * OBJECTS_BYTES_PER_PIXEL + voxels * _LABEL_BYTES
    block = min(frame, OBJECTS_BLOCK_PIXELS) * OBJECTS_BYTES_PER_PIXEL
    activations = int(card.bytes_per_pixel * tile * width / 4)
    if flips:  # the sum, and what is turned back to be added to it
        activations += tile * 2 * 4 * card.out_channels
    # The tile at work, the same as a batch, the next one; and what comes back of the network.
    copies = tile * (3 * 4 * card.in_channels + 2 * 4 * card.out_channels)
    on_device = 0
    if device.startswith("cuda"):
        on_device, activations = network + activations, 0
    # The network's activations are gone when objects are made.
    at_once = network + kept + summed + max(activations + copies, labelling)
    streamed = network + summed + max(activations + copies, block)
    return at_once, streamed, on_device
