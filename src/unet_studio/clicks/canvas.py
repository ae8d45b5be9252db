"""The image under the clicks: planes by their place, positions by their axes, levels by steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_studio.clicks.encoding import IMAGE_CHANNELS
from unet_studio.clicks.objects import Place
from unet_studio.clicks.prompts import Point, pixel_along
from unet_studio.clicks.views import PlaneReader
from unet_studio.errors import AxesError
from unet_studio.images.volume import Volume, as_volume


@dataclass(frozen=True)
class Canvas:
    """An image whose planes can be clicked.

    Attributes
    ----------
    levels : dict of int to Volume
        Pixels of the full resolution per pixel of a level, to the level; 1 is the image.
    channels : tuple of int
        Up to three that the network is shown.
    """

    levels: dict[int, Volume]
    channels: tuple[int, ...]

    @property
    def volume(self) -> Volume:
        """The image in full resolution."""
        return self.levels[1]

    @property
    def axes(self) -> str:
        """Axes of positions and labels: the image's without C, in its order."""
        return self.volume.axes.names.replace("C", "")

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths along :attr:`axes`."""
        return tuple(self.volume.info.length(a) for a in self.axes)

    @property
    def plane_axes(self) -> str:
        """The axes that number the planes."""
        return "".join(a for a in self.axes if a not in "YX")

    def pixel(self, position: Sequence[float]) -> tuple[int, ...] | None:
        """Return the pixel that a position lies in; None if it is outside or no number.

        Raises
        ------
        AxesError
            If the position has not one number per axis.
        """
        if len(position) != len(self.axes):
            raise AxesError(
                f"The position {tuple(position)} has {len(position)} numbers; "
                f"{self.volume.name!r} needs one for each of {', '.join(self.axes)}."
            )
        if not all(map(math.isfinite, map(float, position))):
            return None
        found = tuple(pixel_along(float(p)) for p in position)
        inside = all(0 <= p < n for p, n in zip(found, self.shape, strict=True))
        return found if inside else None

    def locate(self, position: Sequence[float]) -> tuple[Place, Point] | None:
        """Return the plane and the point (Y, X) in it; None if it is outside or no number.

        Raises
        ------
        AxesError
            If the position has not one number per axis.
        """
        pixel = self.pixel(position)
        if pixel is None:
            return None
        place = tuple(pixel[self.axes.index(a)] for a in self.plane_axes)
        y, x = (float(position[self.axes.index(a)]) for a in "YX")
        return place, (y, x)

    def named(self, place: Place) -> dict[str, int]:
        """Return a place by the letters of its axes."""
        return dict(zip(self.plane_axes, place, strict=True))

    def reader(self, place: Place) -> PlaneReader:
        """Return what reads one plane."""
        return PlaneReader(self.levels, self.named(place), self.channels)


def open_canvas(
    image: Any,
    axes: str | None = None,
    *,
    levels: Sequence[Any] = (),
    channels: Sequence[int] | None = None,
    rgb: bool | None = None,
) -> Canvas:
    """Return the canvas of an image, its levels and its channels. No pixel is read.

    Parameters
    ----------
    image : array, Volume, path, or sequence of arrays
        A sequence holds resolution levels, the finest first.
    axes : str, optional
        One letter out of TCZYX per dimension, where the image does not say.
    levels : sequence of array or Volume
        Coarser resolution levels of the same axes, if there are any.
    channels : sequence of int, optional
        Up to three; by default the first three.
    rgb : bool, optional
        Whether the channels are red, green and blue.

    Raises
    ------
    AxesError, ImageError
    """
    if isinstance(image, str | Path):
        volume, coarser = _opened(Path(image), axes)
    else:
        given = [*image] if isinstance(image, list | tuple) else [image]
        volume = as_volume(given[0], axes, rgb=rgb)
        coarser = given[1:]
    found = {1: volume}
    for level in (*coarser, *levels):
        _add_level(found, as_volume(level, volume.axes.names, name=volume.name, rgb=volume.rgb))
    return Canvas(found, _chosen(volume, channels))


def _opened(path: Path, axes: str | None) -> tuple[Volume, list[Volume]]:
    from unet_studio.images.readers import read_image

    volume = read_image(path, axes)
    count = int(volume.metadata.get("levels", 1))
    return volume, [read_image(path, axes, level=n) for n in range(1, count)]


def _add_level(levels: dict[int, Volume], level: Volume) -> None:
    full, coarse = levels[1].info, level.info
    # Time and depth are looked up by number: a level that thins them out is not used.
    if any(full.length(a) != coarse.length(a) for a in "TCZ"):
        return
    ratios = [full.length(a) / coarse.length(a) for a in "YX"]
    step = round(sum(ratios) / 2)
    off = max(abs(ratio - step) * coarse.length(a) for ratio, a in zip(ratios, "YX", strict=True))
    # Halving an odd number of pixels loses or adds up to one of the coarser ones.
    if step > 1 and off < 2 * step:
        levels.setdefault(step, level)


def _chosen(volume: Volume, channels: Sequence[int] | None) -> tuple[int, ...]:
    count = volume.info.channels
    if channels is None:
        return tuple(range(min(count, IMAGE_CHANNELS)))
    chosen = tuple(int(c) for c in channels)
    if not chosen or len(chosen) > IMAGE_CHANNELS or not all(0 <= c < count for c in chosen):
        raise AxesError(
            f"The channels {chosen} of {volume.name!r} can not be shown to the click model: "
            f"choose one to three out of 0 to {count - 1}."
        )
    return chosen
