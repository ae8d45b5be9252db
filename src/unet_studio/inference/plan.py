"""The plan of a run: a recipe resolved against an image, before torch is imported.

It says how many tiles there will be, on which device, how much memory they
will need, and what the user should know, while nothing has been computed yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from unet_studio.axes import AXIS_WORDS, Axes
from unet_studio.errors import AxesError
from unet_studio.images.limits import readable_size
from unet_studio.images.normalisers import check_normalisation
from unet_studio.images.preparation import open_preparation
from unet_studio.images.volume import VolumeInfo
from unet_studio.inference.channels import ChannelMap, map_channels
from unet_studio.inference.choice import likely, planned_device
from unet_studio.inference.cutting import cut_tiles, expected_flips, is_exact
from unet_studio.inference.devices import first_of, free_memory
from unet_studio.inference.forecast import forecast, shortage
from unet_studio.inference.planes import PlaneView, pixels_of, plan_views
from unet_studio.inference.tiling import TilePlan
from unet_studio.models.card import ModelCard
from unet_studio.models.per_axis import PerAxis
from unet_studio.recipe import Recipe

# Of what is free, so much may go into the activations of one batch of tiles.
_MEMORY_SHARE = 0.35
_STREAM_ABOVE = 0.7  # of the free memory
_MEMORY_FLOOR = 256 * 2**20
_LARGEST_BATCH = 16
# More at once do not run faster on a GPU, and nothing would be left to be copied beside it.
_BATCH_PIXELS = 2**21
_CPU_ACTIVATION_LIMIT = 3 * 2**30
_UNKNOWN_GPU_LIMIT = 3 * 2**30


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
    views : tuple of PlaneView
        Planes along Z that are predicted besides XY.
    backend : str
        What the network will probably run in.
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
    views: tuple[PlaneView, ...] = ()
    backend: str = "torch"

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the image that are read."""
        return self.channel_map.channels

    @property
    def tile_count(self) -> int:
        """Tiles over all frames, and over all planes of them that are looked at."""
        count = self.tiles.count * self.frames
        times = self.info.length("T")
        return count + sum(v.tiles.count * v.planes * times for v in self.views)

    @property
    def network_pixels(self) -> int:
        """Pixels that go through the network in all: halos and mirror images included."""
        pixels = pixels_of(self.tiles, self.frames, self.views, self.info.length("T"))
        return pixels * _mirrors(self.recipe, self.card)

    @property
    def tile_shape(self) -> tuple[int, ...]:
        """Shape of a tile, halo included, in pixels."""
        return self.tiles.tile_shape

    @property
    def halo(self) -> PerAxis:
        """Context around what is kept of a tile, in pixels, for all axes or per axis."""
        return self.tiles.halo

    @property
    def exact(self) -> bool:
        """Whether the result is that of the whole image at once, to rounding."""
        return all(is_exact(self.card, tiles) for tiles in self._cuts)

    @property
    def expected_flips(self) -> float | None:
        """Share of the pixels that seams are expected to change; None if not known."""
        inexact = [tiles for tiles in self._cuts if not is_exact(self.card, tiles)]
        expected = [expected_flips(self.card, tiles) for tiles in inexact]
        known = [flips for flips in expected if flips is not None]
        return max(known, default=0.0) if len(known) == len(expected) else None

    @property
    def averages(self) -> bool:
        """Whether a pixel's result is the mean of several: of tiles that blend, or of planes."""
        return bool(self.views) or self.tiles.averages

    @property
    def _cuts(self) -> tuple[TilePlan, ...]:
        return (self.tiles, *(view.tiles for view in self.views))

    @property
    def needs_streaming(self) -> bool:
        """Whether the result had better go through the disk than be held in memory."""
        free = self.available_bytes
        return free is not None and self.memory_bytes > _STREAM_ABOVE * free

    @property
    def output_axes(self) -> Axes:
        """Axes of the labels: those of the image without channels, in its order."""
        return self.info.axes.without("C")

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
        if self.views:
            text += ", along three planes"
        if self.backend == "openvino":
            text += " with OpenVINO"
        if self.recipe.flips:
            text += f", each in {_mirrors(self.recipe, self.card)} mirror images"
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
    if recipe.flips is None:
        recipe = recipe.model_copy(update={"flips": card.flips})
    axes = spatial_axes(card)
    missing = [a for a in axes if a not in info.axes]
    if missing:
        raise AxesError(
            f"The model {card.name!r} works in three dimensions, but {info.name!r} (axes "
            f"{info.axes.names}) has no {AXIS_WORDS[missing[0]]} axis. Choose a 2D model."
        )
    check_normalisation(recipe.normalisation or card.normalisation)
    channel_map = map_channels(recipe.channels, card, info)
    device = planned_device(recipe)
    available = free_memory(device)
    budget = _activation_budget(device, available)
    warnings: list[str] = []
    seen = prepared_info(card, info)
    sparing = first_of(device) == "cpu"

    def cut(shape: list[int]) -> TilePlan:
        return cut_tiles(recipe, card, shape, budget, warnings, sparing=sparing)

    tiles = cut([seen.length(a) for a in axes])
    views, assumed = plan_views(recipe, card, info, cut)
    warnings = list(dict.fromkeys([*warnings, *assumed]))
    frames = math.prod(seen.length(a) for a in "TZ" if a not in axes)
    batch = _batch(recipe, card, tiles, frames, device, budget)
    free = free_memory("cpu")
    pixels = pixels_of(tiles, frames, views, info.length("T")) * _mirrors(recipe, card)
    numerics = likely(card, device, recipe, pixels)
    objects = recipe.objects or card.default_objects
    peaks = forecast(
        card, info, tiles, batch, device, numerics, flips=bool(recipe.flips), views=views,
        # The largest of all pieces is known when all have been seen.
        whole_frames=bool(objects.options.get("keep_largest")),
    )  # fmt: skip
    memory = peaks.streamed if streamed else peaks.held
    if card.preparation is not None:  # one frame as it is, as the network sees it, and back
        memory += _preparing(card, info, seen)
    warnings += shortage("of memory", memory, free, by_disk=not streamed)
    if peaks.device:
        warnings += shortage(f"on {device}", peaks.device, available, by_disk=False)
    if channel_map.luma:
        warnings.append("The model takes one grey channel: red, green and blue are mixed.")
    return RunPlan(
        recipe, card, info, channel_map, tiles, frames, batch, device, numerics.precision,
        memory, peaks.device, free, tuple(warnings), views, numerics.backend,
    )  # fmt: skip


def _mirrors(recipe: Recipe, card: ModelCard) -> int:
    return 2 ** len(card.mirrored) if recipe.flips else 1


def prepared_info(card: ModelCard, info: VolumeInfo) -> VolumeInfo:
    """Return what the network will see of an image: the image, unless it is prepared first.

    Raises
    ------
    RecipeError
        If the card's preparation does not exist, or its options do not fit.
    """
    if card.preparation is None:
        return info
    axes = info.axes.canonical
    spatial = axes.select(axes.spatial)
    shape = open_preparation(card.preparation).shape(
        tuple(info.length(a) for a in spatial.names), spatial
    )
    lengths = dict(zip(spatial.names, shape, strict=True))
    names = info.axes.names
    return replace(
        info, shape=tuple(lengths.get(a, n) for a, n in zip(names, info.shape, strict=True))
    )


def _preparing(card: ModelCard, info: VolumeInfo, seen: VolumeInfo) -> int:
    frames = [math.prod(i.length(a) for a in "ZYX") for i in (info, seen)]
    return sum(frames) * 4 * (card.in_channels + card.out_channels)


def _activation_budget(device: str, available: int | None) -> float:
    if available is None:
        return _UNKNOWN_GPU_LIMIT
    budget = max(_MEMORY_SHARE * available, _MEMORY_FLOOR)
    # Larger tiles than this do not run faster on a CPU, they only use its memory.
    return min(budget, _CPU_ACTIVATION_LIMIT) if first_of(device) == "cpu" else budget


def _batch(
    recipe: Recipe, card: ModelCard, tiles: TilePlan, frames: int, device: str, budget: float
) -> int:
    if recipe.tiling.batch is not None:
        return recipe.tiling.batch
    if first_of(device) == "cpu":
        return 1  # batches of tiles are no faster there, and slower if they are large
    fitting = int(budget // (card.bytes_per_pixel * math.prod(tiles.tile_shape)))
    filling = round(_BATCH_PIXELS / math.prod(tiles.tile_shape))
    return max(1, min(fitting, filling, _LARGEST_BATCH, tiles.count * frames))
