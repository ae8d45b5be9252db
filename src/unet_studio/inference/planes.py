"""Three-plane consensus: a 2D network looks at a stack along all three axes, and is averaged.

A network of two dimensions sees the XY planes of a stack only. Its probabilities
of XZ and YZ planes are as good a guess where voxels are about cubes, and the
mean of the three is steadier across planes (the "orthoplane" scheme of
Prasoon et al. 2013, doi:10.1007/978-3-642-40763-5_31). Where Z is sampled
otherwise than Y and X, planes along Z are resampled linearly to square pixels
before the network, and its result back.

XZ and YZ planes are worked at in slabs: a few planes that lie beside each other
are read at once, since files and Zarr arrays hold whole XY planes or chunks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import PIXEL, Axes, rearrange
from unet_studio.errors import RecipeError
from unet_studio.events import Event, TileDone
from unet_studio.images.volume import Volume, VolumeInfo
from unet_studio.inference.tiling import TilePlan

if TYPE_CHECKING:
    from unet_studio.inference.plan import RunPlan
    from unet_studio.models.card import ModelCard
    from unet_studio.recipe import Recipe

# Of planes that are held at once, in bytes; more are read faster from chunked files.
_SLAB_BYTES = 256 * 2**20
# Planes are resampled by more than this only by mistake: nothing but blur would be seen.
_MOST_ZOOM = 20.0
# By the axis that planes follow each other along: what the axes become to the network
# ("Y" is the rows of a plane, "X" its columns, "Z" which plane it is).
_ROLES = {"Y": {"Z": "Y", "Y": "Z", "X": "X"}, "X": {"Z": "Y", "Y": "X", "X": "Z"}}
_WORDS = {"Y": "XZ", "X": "YZ"}

Fill = Callable[[Volume, "RunPlan", NDArray[Any]], Generator[Event, None, int]]


@dataclass(frozen=True)
class PlaneView:
    """Planes along Z: how they are cut, resampled and read.

    Attributes
    ----------
    across : {"Y", "X"}
        The axis along which the planes follow each other: "Y" for XZ, "X" for YZ planes.
    depth : int
        Length along Z after resampling to square pixels, in pixels.
    planes : int
        In one volume.
    slab : int
        Planes that are read and held at once.
    tiles : TilePlan
        Of one plane.
    """

    across: str
    depth: int
    planes: int
    slab: int
    tiles: TilePlan

    @property
    def name(self) -> str:
        """The planes in the words of users: "XZ" or "YZ"."""
        return _WORDS[self.across]


def plan_views(
    recipe: Recipe,
    card: ModelCard,
    info: VolumeInfo,
    cut: Callable[[list[int]], TilePlan],
) -> tuple[tuple[PlaneView, ...], list[str]]:
    """Plan the planes that a recipe asks for besides XY.

    Parameters
    ----------
    recipe : Recipe
    card : ModelCard
    info : VolumeInfo
    cut : callable
        Cuts a plane of a given shape into tiles.

    Returns
    -------
    views : tuple of PlaneView
    warnings : list of str

    Raises
    ------
    RecipeError
        For a 3D network, or where voxels are far from cubes.
    """
    if recipe.planes == "xy":
        return (), []
    if card.ndim == 3:
        raise RecipeError(
            f"The model {card.name!r} works in three dimensions and sees all directions at once. "
            "Leave three planes out, or choose a 2D model."
        )
    if card.preparation is not None:
        raise RecipeError(
            f"The model {card.name!r} prepares whole images in its own way. "
            "Leave three planes out, or choose another model."
        )
    if "Z" not in info.axes:
        return (), [f"{info.name!r} has no depth axis, so there are only XY planes to predict."]
    views = []
    for across, other in (("Y", "X"), ("X", "Y")):
        zoom = _zoom(info, other)
        depth = max(1, round(info.length("Z") * zoom))
        columns, planes = info.length(other), info.length(across)
        held = max(1, int(_SLAB_BYTES // (depth * columns * _bytes_per_voxel(card))))
        tiles = cut([depth, columns])
        views.append(PlaneView(across, depth, planes, min(held, planes), tiles))
    return tuple(views), _assumptions(info)


def pixels_of(tiles: TilePlan, frames: int, views: Sequence[PlaneView], times: int) -> int:
    """Return how many pixels the tiles of XY planes and of all other planes have together."""
    return tiles.pixels * frames + sum(v.tiles.pixels * v.planes * times for v in views)


def slab_bytes(view: PlaneView, card: ModelCard) -> int:
    """Return about how much memory a slab of planes needs, in bytes."""
    return view.slab * math.prod(view.tiles.shape) * _bytes_per_voxel(card)


def _bytes_per_voxel(card: ModelCard) -> int:
    # The planes as read and resampled; what the network says of them, turned back and averaged.
    return 8 * card.in_channels + 14 * card.out_channels


def _zoom(info: VolumeInfo, other: str) -> float:
    """Return by how much Z is stretched so that its pixels are as long as those of an axis."""
    (deep, wide), axes = (info.axes.index(axis) for axis in "Z" + other), info.axes
    if axes.units[deep] != axes.units[wide] or min(axes.scale[deep], axes.scale[wide]) <= 0:
        return 1.0
    zoom = axes.scale[deep] / axes.scale[wide]
    if not 1 / _MOST_ZOOM <= zoom <= _MOST_ZOOM:
        raise RecipeError(
            f"The voxels of {info.name!r} are {zoom:.3g} times as long along Z as along {other}: "
            "planes along Z hold too little to see anything in them. Predict XY planes only, or "
            "correct the voxel size."
        )
    return zoom


def _assumptions(info: VolumeInfo) -> list[str]:
    axes = info.axes.select("ZYX")
    if len(set(axes.units)) > 1:
        why = f"the units of its axes differ ({', '.join(axes.units)})"
    elif set(axes.units) == {PIXEL} and set(axes.scale) == {1.0}:
        why = "its voxel size is not known"
    else:
        return []
    return [f"The voxels of {info.name!r} are taken for cubes, as {why}."]


def average_views(
    volume: Volume, plan: RunPlan, output: Any, names: str, fill: Fill
) -> Generator[Event, None, None]:
    """Predict the planes along Z and average them into what XY planes gave.

    Parameters
    ----------
    volume : Volume
    plan : RunPlan
        With its ``views``.
    output : writable array, axes as in ``names``
        Holds the prediction of the XY planes.
    names : str
        ``[T] C Z Y X``.
    fill : callable
        Predicts a volume of planes (C Z Y X) into an array.

    Yields
    ------
    Event
        Progress over all tiles of the plan.
    """
    done = plan.tiles.count * plan.frames
    for number, view in enumerate(plan.views, start=2):
        for frame in range(plan.info.length("T")):
            for start in range(0, view.planes, view.slab):
                planes = slice(start, min(start + view.slab, view.planes))
                part, part_plan = _slab(volume, plan, view, frame, planes)
                shape = (plan.card.out_channels, *part.array.shape[1:])
                held = np.zeros(_turned(shape, view.across), output.dtype)
                for event in fill(part, part_plan, held):
                    if isinstance(event, TileDone):
                        event = TileDone(done + event.done, plan.tile_count)
                    yield event
                done += part_plan.tile_count
                place = {"T": frame, view.across: planes}
                key = tuple(place.get(axis, slice(None)) for axis in names)
                _average(output, key, _turned_back(held, view, plan.info.length("Z")), number)


def _average(output: Any, key: tuple[Any, ...], value: NDArray[np.float32], number: int) -> None:
    """Take a value into the mean of ``number`` values."""
    before = np.asarray(output[key]).astype(np.float32)
    value -= before
    value /= number
    value += before
    output[key] = value


def _slab(
    volume: Volume, plan: RunPlan, view: PlaneView, frame: int, planes: slice
) -> tuple[Volume, RunPlan]:
    """Return some planes as a stack of their own, C Z Y X in the eyes of the network."""
    region: dict[str, slice | int] = {view.across: planes}
    if "T" in volume.axes:
        region["T"] = frame
    block = resample(volume.read(region, plan.channels), 1, view.depth)
    roles = _ROLES[view.across]
    axes = Axes("C" + "".join(roles[axis] for axis in "ZYX"))
    part = Volume(block, axes, volume.name, volume.source)
    channels = replace(plan.channel_map, channels=tuple(range(len(plan.channels))))
    part_plan = replace(
        plan,
        info=part.info,
        channel_map=channels,
        tiles=view.tiles,
        frames=planes.stop - planes.start,
        views=(),
    )
    return part, part_plan


def _turned(shape: tuple[int, ...], across: str) -> tuple[int, ...]:
    """Return the shape (C, Z, Y, X) in the order that the network sees: plane, row, column."""
    length = dict(zip("CZYX", shape, strict=True))
    return (length["C"], length[across], length["Z"], length["X" if across == "Y" else "Y"])


def _turned_back(held: NDArray[Any], view: PlaneView, depth: int) -> NDArray[np.float32]:
    """Return what was predicted of planes in the image's own order and depth, C Z Y X."""
    source = "C" + view.across + "Z" + ("X" if view.across == "Y" else "Y")
    back = rearrange(held, source, "CZYX")
    return resample(back, 1, depth).astype(np.float32)  # a copy in any case


def resample(array: NDArray[Any], axis: int, length: int) -> NDArray[Any]:
    """Resample one axis linearly; both grids cover the same extent.

    Parameters
    ----------
    array : array
    axis : int
    length : int
        Number of samples wanted along it.

    Returns
    -------
    array of float32
        The array itself, as it is, if it has this length.
    """
    n = array.shape[axis]
    if n == length:
        return array
    positions = np.clip((np.arange(length) + 0.5) * (n / length) - 0.5, 0, n - 1)
    low, high = np.floor(positions).astype(int), np.ceil(positions).astype(int)
    shape = [-1 if a == axis else 1 for a in range(array.ndim)]
    weight = (positions - low).astype(np.float32).reshape(shape)
    first = array.take(low, axis).astype(np.float32)
    second = array.take(high, axis).astype(np.float32)
    second -= first
    second *= weight
    second += first
    resampled: NDArray[np.float32] = second
    return resampled
