"""Whether annotations lie on the pixels of their image."""

from __future__ import annotations

from unet_studio.axes import PIXEL
from unet_studio.errors import AnnotationError
from unet_studio.images.volume import Volume

# Two grids whose pixels differ by less than this belong together: files round.
_TOLERANCE = 1e-3


def check_scale(image: Volume, painted: Volume) -> None:
    """Refuse annotations whose pixels are of another size than those of their image.

    Raises
    ------
    AnnotationError
    """
    for axis in image.axes.spatial:
        if axis not in painted.axes:
            continue
        place = image.axes.index(axis), painted.axes.index(axis)
        own, theirs = image.axes.scale[place[0]], painted.axes.scale[place[1]]
        units = image.axes.units[place[0]], painted.axes.units[place[1]]
        if PIXEL in units or units[0] != units[1]:
            continue  # one of them does not say
        if abs(own - theirs) > _TOLERANCE * max(abs(own), abs(theirs)):
            raise AnnotationError(
                f"A pixel of the annotations is {theirs:g} {units[0]} along {axis}, one of the "
                f"image {image.name!r} {own:g}. They are not on the same grid; resample the "
                "annotations, or paint on this image."
            )
