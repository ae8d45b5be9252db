"""Images stored as numbers of colours: the colours are shown, the numbers are kept.

Such a file may be a picture, and then the numbers mean nothing, or labels in
bright colours, and then the numbers are the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import AxesError
from unet_studio.images.volume import Volume

NUMBERS = "palette_numbers"


class PaletteArray:
    """Colours of an array of palette numbers, looked up when they are read.

    Parameters
    ----------
    numbers : array of uint8 or uint16
    colours : array of uint8, axes (number, C)
    """

    def __init__(self, numbers: Any, colours: NDArray[np.uint8]) -> None:
        self._numbers, self._colours = numbers, colours
        self.shape = (*(int(n) for n in numbers.shape), colours.shape[1])
        self.dtype = np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        keys = key if isinstance(key, tuple) else (key,)
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            fill = (slice(None),) * (self.ndim - len(keys) + 1)
            keys = keys[:at] + fill + keys[at + 1 :]
        place, sample = keys[: self.ndim - 1], keys[self.ndim - 1 :]
        return np.asarray(self._colours[np.asarray(self._numbers[place])][(..., *sample)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


def colours_of(page: Any) -> NDArray[np.uint8] | None:
    """Return the palette of a TIFF page, axes (number, RGB); None if it is not needed.

    A palette in which each grey stands for itself changes nothing.
    """
    if page.photometric.name != "PALETTE" or page.colormap is None:
        return None
    colours = np.asarray(page.colormap).T
    # 16 bits as the standard has it; some programs write 8 all the same.
    eight = (colours >> 8 if colours.max() > 255 else colours).astype(np.uint8)
    greys = np.arange(len(eight)) * (255 // (len(eight) - 1) if len(eight) <= 256 else 1)
    if len(eight) <= 256 and (np.abs(eight.astype(int) - greys[:, None]) <= 1).all():
        return None
    return eight


def axes_of_numbers(given: str | None, dimensions: int) -> str | None:
    """Return the axes of the numbers, out of those that the user gave for the colours.

    Raises
    ------
    AxesError
        If the colours are not the last axis.
    """
    if given is None or len(given) != dimensions + 1:
        return given
    if given[-1].upper() != "C":
        raise AxesError(
            f"Axes {given} do not fit an image with a palette of colours; its last axis is C. "
            f"Name that last, or only the {dimensions} before it."
        )
    return given[:-1]


def coloured(volume: Volume, colours: NDArray[np.uint8]) -> Volume:
    """Return an image of palette numbers as colours; the numbers are in its metadata.

    Parameters
    ----------
    volume : Volume
        Of palette numbers, without a channel axis.
    colours : array of uint8, axes (number, RGB)
    """
    if "C" in volume.axes:
        raise AxesError(
            f"{volume.name!r} has channels as well as a palette of colours (axes "
            f"{volume.axes.names}). Save it without the palette."
        )
    return replace(
        volume,
        array=PaletteArray(volume.array, colours),
        axes=volume.axes.with_names(volume.axes.names + "C"),
        rgb=True,
        metadata={**volume.metadata, NUMBERS: volume},
    )


def numbers_of(volume: Volume) -> Volume:
    """Return the palette numbers of an image that was stored with a palette, or the image."""
    metadata: Mapping[str, Any] = volume.metadata
    numbers = metadata.get(NUMBERS)
    return numbers if isinstance(numbers, Volume) else volume
