"""Read and write TIFF: plain, tiled, pyramidal, ImageJ and OME.

A TIFF that this package writes is an OME-TIFF if OME-XML can describe it. Else
(an order of axes that does not end in YX, 64-bit ids) it is a plain TIFF whose
description holds the axes, scale and units as JSON, the way tifffile does it.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import PIXEL, AmbiguousAxes, Axes, candidate_axes, rearrange, resolve_axes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.atomic import atomic_file
from unet_studio.images.endless_tiff import check_chain, check_planes, next_page
from unet_studio.images.label_types import fit_labels
from unet_studio.images.limits import check_memory, check_stored, declared_bytes
from unet_studio.images.palette import axes_of_numbers, coloured, colours_of
from unet_studio.images.tiff_metadata import TiffMetadata, metadata_of
from unet_studio.images.units import OME_SYMBOLS
from unet_studio.images.volume import Volume

# Pages in strips are decoded whole up to this size: reading strips of a few
# rows one by one costs far more than it saves.
_PAGE_AT_ONCE = 64 * 2**20
_UNCOMPRESSED = 1
# From this edge on, results are written in tiles so that parts can be read.
_TILED_FROM, _TILE = 2048, 512
_CLASSIC_LIMIT = 2**32 - 2**25
_OME_TYPES = frozenset(("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32"))


class TiffArray:
    """One compressed or scattered series of a TIFF, decoded page by page or tile by tile.

    The file stays open as long as the array lives.
    """

    def __init__(self, path: Path, series: int, level: int) -> None:
        import tifffile
        import zarr

        file = tifffile.TiffFile(path)
        weakref.finalize(self, file.close)
        pages = file.series[series].levels[level]
        page = pages.keyframe
        in_strips = not page.is_tiled and page.nbytes <= _PAGE_AT_ONCE
        store = file.series[series].aszarr(level=level, chunkmode="page" if in_strips else None)
        self._array = zarr.open_array(store, mode="r")
        self.shape = tuple(int(n) for n in self._array.shape)
        self.dtype = np.dtype(self._array.dtype)
        self.chunks = tuple(int(n) for n in self._array.chunks)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> NDArray[Any]:
        return np.asarray(self._array[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self._array[...], dtype)


def read(path: Path, axes: str | None, series: int, level: int) -> Volume:
    """Open a TIFF lazily; see :func:`unet_studio.images.readers.read_image`."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        check_chain(path, file)
        check_planes(path, file)
        chosen = _choose(path, file, series, level)
        _check_size(path, file, chosen)
        palette = colours_of(chosen.keyframe)
        given = axes if palette is None else axes_of_numbers(axes, len(chosen.shape))
        names, rgb = _names(path, chosen, given)
        known = metadata_of(file, series)
        shrink = _shrink(file.series[series], chosen)
        # One run of plain bytes in the file can be mapped into memory.
        mappable = chosen.dataoffset is not None and int(chosen.keyframe.bitspersample) >= 8
    if mappable:
        array: Any = tifffile.memmap(path, series=series, level=level, mode="r")
    else:
        array = TiffArray(path, series, level)
        check_memory(path, declared_bytes(array.chunks, array.dtype), "One page or tile")
    volume = Volume(
        array,
        _axes(names, known, shrink),
        rgb=rgb,
        channel_names=known.channel_names if "C" in names and not rgb else (),
        metadata={"family": known.family},
    )
    return volume if palette is None else coloured(volume, palette)


def _choose(path: Path, file: Any, series: int, level: int) -> Any:
    count = len(file.series)
    if not 0 <= series < count:
        raise ImageError(
            f"{path} holds {count} image(s); there is no series {series}. Count from 0."
        )
    levels = file.series[series].levels
    if not 0 <= level < len(levels):
        raise ImageError(
            f"{path} has {len(levels)} resolution level(s); there is no {level}. Count from 0, "
            "the finest."
        )
    return levels[level]


def _check_size(path: Path, file: Any, series: Any) -> None:
    """Compare what the header promises with the file, without reading pixels."""
    size = path.stat().st_size
    page = series.keyframe
    check_stored(
        path,
        declared_bytes(series.shape, series.dtype),
        # Other files may belong to an OME-TIFF; each page is checked below.
        size if not series.is_multifile else 2**62,
        compressed=int(page.compression) != _UNCOMPRESSED or int(page.bitspersample) < 8,
    )
    try:
        pages = list(series.pages)
    except IndexError:  # the chain of pages is shorter than the header promises
        raise _truncated(path, series) from None
    missing = sum(page is None for page in pages)
    if missing:
        raise ImageError(
            f"{path}: {missing} of {len(pages)} planes are missing; they lie in other files of "
            "the same OME-TIFF or were never recorded. Copy all its files into one folder, or "
            "save the planes that there are as a new file."
        )
    ends = (
        offset + count
        for page in pages
        for offset, count in zip(page.dataoffsets[-1:], page.databytecounts[-1:], strict=True)
    )
    if not series.is_multifile and (any(end > size for end in ends) or _chain_broken(file, size)):
        raise _truncated(path, series)


def _chain_broken(file: Any, size: int) -> bool:
    """Whether the last page that is there points to a next one behind the end of the file.

    A truncated stack would otherwise pass for a shorter one.
    """
    return next_page(file, int(file.pages[-1].offset)) >= size


def _truncated(path: Path, series: Any) -> ImageError:
    return ImageError(
        f"{path} is truncated: it ends after {path.stat().st_size} bytes, before all of its "
        f"pixels or pages (at least {series.shape} values of {series.dtype}). Copy or download "
        "it again."
    )


def _names(path: Path, series: Any, given: str | None) -> tuple[str, bool]:
    """Return the axes of a series and whether its samples are colours."""
    letters = str(series.axes).upper()
    samples = letters.find("S")
    if samples >= 0 and "C" not in letters:
        letters = letters.replace("S", "C")
    if given is not None:
        names = resolve_axes(series.shape, given.upper().replace("S", "C"), str(path))
    elif "S" in letters:
        raise AxesError(
            f"{path} has channels as well as colour samples (axes {letters}, shape "
            f"{series.shape}). Save it with one channel axis."
        )
    elif set(letters) <= set("TCZYX"):
        names = resolve_axes(series.shape, letters, str(path))
    else:
        raise _ambiguous(path, series.shape, letters)
    colours = samples >= 0 and names[samples] == "C" and series.shape[samples] in (3, 4)
    return names, bool(colours and series.keyframe.photometric.name in ("RGB", "YCBCR"))


def _ambiguous(path: Path, shape: tuple[int, ...], letters: str) -> AmbiguousAxes:
    known = set("TCZYX")
    every = candidate_axes(len(shape))
    fitting = tuple(
        c for c in every if all(k == a for k, a in zip(letters, c, strict=True) if k in known)
    )
    unknown = ", ".join(
        f"{place + 1} (length {shape[place]})"
        for place, letter in enumerate(letters)
        if letter not in known
    )
    return AmbiguousAxes(
        f"{path} of shape {shape} does not say what its dimension {unknown} is; the axes may be "
        f"{', '.join(fitting or every)}.",
        fitting or every,
    )


def _shrink(full: Any, chosen: Any) -> dict[str, float]:
    """Return by which factor each axis of a pyramid level is coarser than the finest."""
    return {
        axis: a / b
        for axis, a, b in zip(full.axes.upper(), full.shape, chosen.shape, strict=True)
        if axis in "ZYX"
    }


def _axes(names: str, known: TiffMetadata, shrink: Mapping[str, float]) -> Axes:
    return Axes(
        names,
        tuple(known.scale.get(a, 1.0) * shrink.get(a, 1.0) for a in names),
        tuple(known.translate.get(a, 0.0) for a in names),
        tuple(known.units.get(a, PIXEL) for a in names),
    )


def write(
    array: NDArray[Any], axes: Axes, target: Path, *, metadata: Mapping[str, Any], labels: bool
) -> Path:
    """Write a TIFF with zlib compression; see :class:`unet_studio.images.formats.Writer`."""
    import tifffile

    array = _storable(array, labels)
    promised = target.name.lower().endswith((".ome.tif", ".ome.tiff"))
    if promised and not axes.names.endswith("YX"):  # OME-XML knows planes of Y X only
        array = np.ascontiguousarray(rearrange(array, axes.names, axes.canonical.names))
        axes = axes.canonical
    ome = _is_ome(array, axes, promised)
    axes = replace(axes, translate=(0.0,) * len(axes)) if ome else axes
    described = _ome_fields(axes) if ome else _plain_fields(axes)
    if ome:
        described["UUID"] = _uuid_of(array, described)
    large = min(array.shape[-2:]) >= _TILED_FROM
    with atomic_file(target) as stream:
        tifffile.imwrite(
            stream,
            array,
            ome=ome,
            bigtiff=array.nbytes > _CLASSIC_LIMIT,
            photometric="minisblack",
            compression="zlib",
            tile=(_TILE, _TILE) if large else None,
            metadata=described,
        )
    return target


def _uuid_of(array: NDArray[Any], described: Mapping[str, Any]) -> str:
    """Return the identifier that OME asks for, made of the content.

    One of chance would make equal results differ, and the usual kind holds the time and the
    address of this computer's network card.
    """
    digest = hashlib.sha256(repr((array.dtype, array.shape, described)).encode())
    digest.update(array.data)
    return str(UUID(bytes=digest.digest()[:16], version=5))


def _storable(array: NDArray[Any], labels: bool) -> NDArray[Any]:
    if labels:
        array = fit_labels(array)
    elif array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)  # neither half nor double are common
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def _is_ome(array: NDArray[Any], axes: Axes, promised: bool) -> bool:
    """Whether OME-XML is needed, or promised by the name, and can say it all."""
    wanted = promised or len(axes) > 2 or set(axes.units) != {PIXEL} or set(axes.scale) != {1.0}
    return wanted and axes.names.endswith("YX") and array.dtype.name in _OME_TYPES


def _ome_fields(axes: Axes) -> dict[str, Any]:
    fields: dict[str, Any] = {"axes": axes.names}
    for axis, scale, unit in zip(axes.names, axes.scale, axes.units, strict=True):
        if axis == "C" or (unit == PIXEL and scale == 1) or not scale > 0:
            continue
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        fields[key] = float(scale)
        # OME-XML has a fixed list of units; "pixel" is none of its times.
        symbol = OME_SYMBOLS.get(unit, "pixel")
        if not (axis == "T" and symbol == "pixel"):
            fields[f"{key}Unit"] = symbol
    return fields


def _plain_fields(axes: Axes) -> dict[str, Any]:
    fields: dict[str, Any] = {"axes": axes.names}
    if set(axes.units) != {PIXEL} or set(axes.scale) != {1.0} or set(axes.translate) != {0.0}:
        fields |= {
            "scale": [float(s) for s in axes.scale],
            "translate": [float(t) for t in axes.translate],
            "units": list(axes.units),
        }
    return fields
