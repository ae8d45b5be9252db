"""Read PNG and JPEG, write labels as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import Axes, rearrange, resolve_axes
from unet_studio.errors import ImageError
from unet_studio.images import tiff
from unet_studio.images.atomic import atomic_file
from unet_studio.images.deferred import DeferredArray
from unet_studio.images.label_types import fit_labels
from unet_studio.images.limits import check_memory, check_stored, declared_bytes
from unet_studio.images.palette import NUMBERS
from unet_studio.images.volume import Volume

_PNG_HEADER = 26  # signature, IHDR up to the colour type
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_MOST_PIXELS = 2 * 89_478_485  # Pillow's own limit against decompression bombs
_LARGEST_IN_PNG = 2**16 - 1
# What Pillow's modes become. The rest (CMYK, YCbCr, LAB, …) is turned into RGB.
_GREY = {"1": "L", "L": "L", "LA": "L", "La": "L", "I;16": "I;16", "I;16B": "I;16B", "I": "I",
         "F": "F"}  # fmt: skip
_GREY_TYPES = {"L": "u1", "I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}


def read(path: Path, axes: str | None, series: int, level: int) -> Volume:
    """Open a picture lazily; see :func:`unet_studio.images.readers.read_image`."""
    from PIL import Image

    if series or level:
        raise ImageError(
            f"{path} is a single picture; there is no series {series}, level {level}. Leave both "
            "at 0."
        )
    try:
        # Pillow warns at half of its limit and refuses beyond.
        with _quiet_bombs(), Image.open(path) as image:
            width, height = image.size
            target = _target_mode(image)
            by_number = image.mode == "P"
    except Image.DecompressionBombError:
        raise ImageError(
            f"{path} declares more than {_MOST_PIXELS} pixels, too many for a picture. Save it as "
            "tiled TIFF or OME-Zarr; if it should be smaller, it is damaged: restore it."
        ) from None
    samples = 1 if target in _GREY_TYPES else len(target)
    dtype = np.dtype(_GREY_TYPES.get(target, "u1"))
    if deep := _deep_samples(path):
        samples, dtype = deep, np.dtype("u2")
    shape = (height, width) if samples == 1 else (height, width, samples)
    needed = declared_bytes(shape, dtype)
    check_stored(path, needed, path.stat().st_size, compressed=True)
    check_memory(path, needed, "The picture")
    names = resolve_axes(shape, axes or "YXC"[: len(shape)], str(path))
    metadata: dict[str, Any] = {"family": "picture"}
    if by_number and names == "YXC":
        numbers = DeferredArray(shape[:2], np.uint8, lambda: _decode(path, "P", False))
        metadata[NUMBERS] = Volume(numbers, Axes("YX"), source=str(path))
    return Volume(
        DeferredArray(shape, dtype, lambda: _decode(path, target, bool(deep))),
        Axes(names),
        rgb=samples >= 3 and names == "YXC",
        metadata=metadata,
    )


def _quiet_bombs() -> Any:
    import warnings

    from PIL import Image

    return warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning)


def _target_mode(image: Any) -> str:
    """Return the Pillow mode in which the pixels are taken."""
    if image.mode in _GREY:
        return _GREY[image.mode]
    transparent = image.mode in ("RGBA", "RGBa", "PA") or "transparency" in image.info
    return "RGBA" if transparent else "RGB"


def _deep_samples(path: Path) -> int:
    """Return the samples of a 16-bit PNG that Pillow would cut to 8 bit; 0 for all others."""
    with path.open("rb") as stream:
        head = stream.read(_PNG_HEADER)
    if not head.startswith(b"\x89PNG") or len(head) < _PNG_HEADER:
        return 0
    depth, colour = head[24], head[25]
    if depth != 16 or colour == 0:
        return 0
    return 1 if colour == 4 else _PNG_SAMPLES.get(colour, 0)


def _decode(path: Path, target: str, deep: bool) -> NDArray[Any]:
    from PIL import Image

    if deep:
        import imagecodecs

        pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
        return np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 2 else pixels)
    with _quiet_bombs(), Image.open(path) as image:
        converted = image if image.mode == target else image.convert(target)
        pixels = np.array(converted)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def write(
    array: NDArray[Any], axes: Axes, target: Path, *, metadata: Mapping[str, Any], labels: bool
) -> Path:
    """Write labels as 16-bit PNG, and what a PNG does not hold as TIFF beside it."""
    from PIL import Image

    fits = len(axes) == 2 and 0 < array.size <= _MOST_PIXELS
    if not labels or not fits or int(array.max()) > _LARGEST_IN_PNG:
        # a.png.tif, for a.tif may be the result of another input.
        beside = target.with_name(target.name + ".tif")
        return tiff.write(array, axes, beside, metadata=metadata, labels=labels)
    pixels = np.ascontiguousarray(rearrange(fit_labels(array), axes.names, "YX"), "u2")
    with atomic_file(target) as stream:
        Image.fromarray(pixels).save(stream, format="PNG")
    return target
