"""Several images of one scene as the channels of one: three MRI sequences, two stains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes
from unet_studio.errors import ImageError
from unet_studio.images.volume import ArrayLike, Volume

# Scales and positions that differ by less are the same: files round them.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class StackedArrays:
    """Arrays of one shape, seen as one with a first axis for which of them. Lazy.

    Attributes
    ----------
    arrays : tuple of array
        numpy, dask or zarr.
    """

    arrays: tuple[ArrayLike, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of arrays, then their shape."""
        return (len(self.arrays), *map(int, self.arrays[0].shape))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the values of all of them."""
        return np.result_type(*(np.dtype(array.dtype) for array in self.arrays))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a region: of the first axis a slice or an int, of the others what arrays take."""
        first, *rest = key if isinstance(key, tuple) else (key,)
        place = tuple(rest)
        if not isinstance(first, slice):
            return np.asarray(self.arrays[first][place]).astype(self.dtype, copy=False)
        parts = [np.asarray(array[place]) for array in self.arrays[first]]
        return np.stack(parts).astype(self.dtype, copy=False)


def stack_channels(volumes: Sequence[Volume]) -> Volume:
    """Return several images as the channels of one, without reading a pixel.

    Parameters
    ----------
    volumes : sequence of Volume
        Of one channel each, all with the same axes, shape, pixel size and position.
        Their order is that of the channels.

    Returns
    -------
    Volume
        Axes C, then those of the images. Name and metadata are the first one's.

    Raises
    ------
    ImageError
        If they do not lie on each other; the message names the image and what differs.
    """
    if not volumes:
        raise ImageError("There is no image to take channels from. Give one file per channel.")
    singles = [_without_channels(volume) for volume in volumes]
    first = singles[0]
    for other in singles[1:]:
        _check_same_place(first, other)
    if len(singles) == 1:
        return first
    return Volume(
        StackedArrays(tuple(single.array for single in singles)),
        first.axes.with_names("C" + first.axes.names),
        first.name,
        ", ".join(single.source or single.name for single in singles),
        channel_names=tuple(single.name for single in singles),
        metadata=first.metadata,
    )


@dataclass(frozen=True)
class _Picked:
    """One place along an axis of an array. Lazy."""

    array: ArrayLike
    axis: int

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(map(int, self.array.shape))
        return shape[: self.axis] + shape[self.axis + 1 :]

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    def __getitem__(self, key: Any) -> NDArray[Any]:
        place = list(key) if isinstance(key, tuple) else [key]
        place += [slice(None)] * (self.axis - len(place))
        place[self.axis : self.axis] = [0]
        return np.asarray(self.array[tuple(place)])


def _without_channels(volume: Volume) -> Volume:
    if volume.info.channels > 1:
        raise ImageError(
            f"{volume.source or volume.name} has {volume.info.channels} channels of its own. "
            "Images that become channels have to be grey; split it first, or give it alone."
        )
    if "C" not in volume.axes:
        return volume
    axis = volume.axes.index("C")
    return Volume(
        _Picked(volume.array, axis), volume.axes.without("C"), volume.name, volume.source,
        metadata=volume.metadata,
    )  # fmt: skip


def _check_same_place(first: Volume, other: Volume) -> None:
    a, b = first.axes, other.axes
    steps = np.asarray(a.scale)
    if a.names != b.names:
        differs = f"axes {b.names} instead of {a.names}"
    elif first.info.shape != other.info.shape:
        differs = f"a shape of {other.info.shape} instead of {first.info.shape}"
    elif a.units != b.units or not np.allclose(b.scale, a.scale, rtol=_TOLERANCE, atol=0):
        differs = f"pixels of {_sizes(b)} instead of {_sizes(a)}"
    elif (np.abs(np.subtract(b.translate, a.translate)) > 0.01 * np.abs(steps)).any():
        differs = f"its origin at {b.translate} instead of {a.translate}"
    else:
        return
    raise ImageError(
        f"{other.source or other.name} does not lie on {first.source or first.name}: it has "
        f"{differs}. Channels of one image have to; register and resample it first."
    )


def _sizes(axes: Axes) -> str:
    return " × ".join(
        f"{step:g} {unit}" for step, unit in zip(axes.scale, axes.units, strict=True)
    )
