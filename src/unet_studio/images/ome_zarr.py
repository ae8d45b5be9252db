"""Read OME-Zarr 0.4 and 0.5, write 0.5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import PIXEL, Axes, rearrange, resolve_axes
from unet_studio.errors import ImageError
from unet_studio.images.atomic import atomic_folder
from unet_studio.images.blocks import Each
from unet_studio.images.label_types import fit_labels
from unet_studio.images.limits import check_memory, declared_bytes
from unet_studio.images.units import unit_name
from unet_studio.images.volume import ArrayLike, Volume
from unet_studio.images.zarr_levels import new_level, take_level, write_level
from unet_studio.images.zarr_marker import check_complete, is_ours, write_marker

# Label pyramids end at the first level with no longer edge.
_SMALLEST_LEVEL = 1024


def read(path: Path, axes: str | None, series: int, level: int) -> Volume:
    """Open an OME-Zarr or plain Zarr lazily; see ``unet_studio.images.readers.read_image``."""
    import zarr

    node = zarr.open(str(path), mode="r")
    if is_ours(path):
        check_complete(path)
    if isinstance(node, zarr.Array):
        return _plain_array(path, node, axes)
    group, metadata = _image_group(path, node, series)
    multiscales = metadata.multiscales
    index = series if len(multiscales) > 1 else 0
    if index >= len(multiscales):
        raise ImageError(
            f"{path} holds {len(multiscales)} image(s); there is no series {series}. Count from 0."
        )
    image = multiscales[index]
    if not 0 <= level < len(image.datasets):
        raise ImageError(
            f"{path} has {len(image.datasets)} resolution level(s); there is no {level}. Count "
            "from 0, the finest."
        )
    array = _array(path, group, image.datasets[level].path)
    return Volume(
        array,
        _axes(path, image, level, array.shape, axes),
        channel_names=_channel_names(metadata),
        metadata={
            "family": "ome-zarr",
            "version": str(metadata.version if hasattr(metadata, "version") else "0.4"),
            "levels": len(image.datasets),
        },
    )


def _plain_array(path: Path, array: Any, axes: str | None) -> Volume:
    """Open a Zarr array without OME metadata; its dimension names may say what the axes are."""
    _check_chunk(path, array)
    named = "".join(str(n or "?") for n in getattr(array.metadata, "dimension_names", None) or ())
    if axes is None and len(named) == len(array.shape) and set(named.upper()) <= set("TCZYX"):
        axes = named
    return Volume(
        array,
        Axes(resolve_axes(array.shape, axes, str(path))),
        metadata={"family": "ome-zarr", "version": "", "levels": 1},
    )


def _image_group(path: Path, group: Any, series: int) -> tuple[Any, Any]:
    """Return the group that holds the image asked for, and its metadata."""
    attributes = dict(group.attrs)
    ome = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in ome and "multiscales" not in ome:
        try:
            group = group[str(series)]
        except KeyError:
            there = ", ".join(sorted(filter(str.isdigit, group.keys()), key=int)) or "none"
            raise ImageError(
                f"{path} has no series {series}. Choose one of those that are there: {there}."
            ) from None
        return _image_group(path, group, 0)
    if "multiscales" in ome:
        return group, _metadata(path, attributes)
    inside = {"plate": "A/1/0", "well": "0", "labels": next(iter(ome.get("labels") or ["name"]))}
    for kind, example in inside.items():
        if kind in ome:
            raise ImageError(
                f"{path} holds many images (OME-Zarr {kind}). Name one of them, such as "
                f"{path / str(example)}."
            )
    raise ImageError(
        f"{path} is a Zarr group without an OME-Zarr image (no multiscales metadata). Name one "
        f"of its arrays: {', '.join(sorted(group.keys())) or 'it has none'}."
    )


def _metadata(path: Path, attributes: Mapping[str, Any]) -> Any:
    import warnings

    from pydantic import ValidationError
    from yaozarrs import v04, v05

    model: Any = v04.Image
    content: Any = attributes
    if "ome" in attributes:
        model, content = v05.Image, attributes["ome"]
    version = str(content.get("version") or content["multiscales"][0].get("version") or "0.4")
    if version not in ("0.4", "0.5"):
        raise ImageError(
            f"{path} is OME-Zarr {version}; versions 0.4 and 0.5 can be read. Convert it, or name "
            f"one of its arrays, such as {path / '0'}, and give the axes."
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a store merely should have
            return model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ImageError(
            f"{path} has OME-Zarr {version} metadata that break the specification at {where}: "
            f"{first['msg'].splitlines()[0]}. Mend them, or name one of its arrays, such as "
            f"{path / '0'}, and give the axes."
        ) from error


def _array(path: Path, group: Any, name: str) -> Any:
    try:
        array = group[name]
    except KeyError:
        raise ImageError(
            f"{path} lacks its array {name}: the copy is not complete. Copy the folder again."
        ) from None
    _check_chunk(path / name, array)
    return array


def _check_chunk(path: Path, array: Any) -> None:
    # A chunk can only be decoded whole; an image may be smaller than one.
    chunk = array.chunks
    check_memory(path, declared_bytes(chunk, array.dtype), f"One chunk of shape {chunk}")


def _axes(path: Path, image: Any, level: int, shape: tuple[int, ...], given: str | None) -> Axes:
    scale = np.ones(len(shape))
    translate = np.zeros(len(shape))
    # First those of the level, then those that hold for all levels.
    groups = (
        image.datasets[level].coordinateTransformations,
        image.coordinateTransformations or (),
    )
    for transform in (t for group in groups for t in group):
        values = np.asarray(getattr(transform, transform.type), float)
        if len(values) != len(shape):
            raise ImageError(
                f"{path}: {len(values)} values of {transform.type} for {len(shape)} dimensions. "
                "Mend the metadata."
            )
        if transform.type == "scale":
            scale, translate = scale * values, translate * values
        else:
            translate = translate + values
    letters = _letters(image)
    names = resolve_axes(shape, given or "".join(letters), str(path))
    # By letter: whoever renames an axis says that its step means something else.
    place = {letter: i for i, letter in enumerate(letters) if letter != "C"}
    return Axes(
        names,
        tuple(float(scale[place[a]]) if a in place else 1.0 for a in names),
        tuple(float(translate[place[a]]) if a in place else 0.0 for a in names),
        tuple(
            unit_name(getattr(image.axes[place[a]], "unit", None)) if a in place else PIXEL
            for a in names
        ),
    )


def _letters(image: Any) -> list[str]:
    by_type = {"time": "T", "channel": "C"}
    return [by_type.get(str(a.type), a.name.upper()) for a in image.axes]


def _channel_names(metadata: Any) -> tuple[str, ...]:
    omero = getattr(metadata, "omero", None)
    labels = [channel.label for channel in omero.channels] if omero else []
    return tuple(map(str, labels)) if all(labels) else ()


def write(
    array: NDArray[Any], axes: Axes, target: Path, *, metadata: Mapping[str, Any], labels: bool
) -> Path:
    """Write an OME-Zarr 0.5 with checksums in every chunk; labels get a pyramid.

    OME-Zarr orders its axes T C Z Y X; the array is brought into that order.
    """
    array = rearrange(fit_labels(array) if labels else array, axes.names, axes.canonical.names)
    return write_chunked(
        array, axes.canonical, target, dtype=array.dtype, metadata=metadata, labels=labels
    )


def write_chunked(
    array: ArrayLike,
    axes: Axes,
    target: Path,
    *,
    dtype: np.dtype[Any],
    metadata: Mapping[str, Any],
    labels: bool,
    check: Callable[[], None] | None = None,
    each: Each = map,
    take: bool = False,
) -> Path:
    """Write an OME-Zarr 0.5 of any size, a slab at a time.

    Parameters
    ----------
    array : numpy or Zarr array, axes as in ``axes``
    axes : Axes
        In the canonical order.
    target : Path
        Appears when it is complete, and with a marker that says so.
    dtype : numpy.dtype
        Of the store; has to hold every value.
    metadata : mapping
        ``record``, if there, is digested into the marker, and ``key`` written there.
    labels : bool
        Add a pyramid, and say that these are labels.
    check : callable, optional
        Called before each slab; may raise to stop.
    each : callable
        Writes the slabs, which share no chunk: ``map``, or what has others do it.
    take : bool
        The array is one of :func:`~unet_studio.images.zarr_levels.new_level`, with these
        axes and this dtype, on the disk of ``target``: move it, instead of copying, if
        all of it was written (of a constant image nothing is).

    Raises
    ------
    OutputError
        If something is in the way, or the disk does not take it.
    """
    import zarr

    with atomic_folder(target, replaceable=is_ours(target)) as folder:
        group = zarr.open_group(str(folder), mode="w", zarr_format=3)
        factors = _factors(array.shape, axes) if labels else [1]
        if take and take_level(group, "0", array):
            source = group["0"]
        else:
            source = _add_level(group, 0, array, axes, dtype, check, each)
        for number in range(1, len(factors)):
            source = _add_level(group, number, source, axes, dtype, check, each)
        group.attrs["ome"] = _ome(axes, factors, target.name, labels=labels)
        write_marker(folder, metadata.get("record"), str(metadata.get("key", "")))
    return target


def _add_level(
    group: Any,
    number: int,
    source: Any,
    axes: Axes,
    dtype: np.dtype[Any],
    check: Callable[[], None] | None,
    each: Each,
) -> Any:
    """Write the finest level, or another one of what every 2nd pixel of the one before is."""
    steps = [2 if number and a in "YX" else 1 for a in axes.names]
    shape = tuple(-(-n // s) for n, s in zip(source.shape, steps, strict=True))
    level = new_level(group, str(number), shape, axes, dtype)
    write_level(level, source, steps, check, each)
    return level


def _factors(shape: tuple[int, ...], axes: Axes) -> list[int]:
    """Return the factors of a pyramid of labels: every 2nd, 4th, … pixel of a plane is kept.

    Ids can not be averaged. What is kept stays where it is, so no level is shifted.
    """
    factors = [1]
    longest = max(shape[axes.index(a)] for a in "YX")
    while longest > _SMALLEST_LEVEL:
        longest = -(-longest // 2)
        factors.append(factors[-1] * 2)
    return factors


def _ome(axes: Axes, factors: list[int], name: str, *, labels: bool) -> dict[str, Any]:
    from yaozarrs import v05

    kinds = {"T": "time", "C": "channel"}
    described: list[dict[str, Any]] = []
    for axis, unit in zip(axes.names, axes.units, strict=True):
        entry = {"name": axis.lower(), "type": kinds.get(axis, "space")}
        described.append(entry if unit == PIXEL else {**entry, "unit": unit})
    image = {
        "name": name,
        "axes": described,
        "datasets": [
            {"path": str(number), "coordinateTransformations": _transforms(axes, factor)}
            for number, factor in enumerate(factors)
        ],
    }
    content: dict[str, Any] = {"version": "0.5", "multiscales": [image]}
    if labels:
        content["image-label"] = {"version": "0.5"}
    model: Any = v05.LabelImage if labels else v05.Image
    model.model_validate(content)  # nothing invalid leaves this function
    return content


def _transforms(axes: Axes, factor: int) -> list[dict[str, Any]]:
    steps = [
        float(s) * (factor if a in "YX" else 1)
        for a, s in zip(axes.names, axes.scale, strict=True)
    ]
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": steps}]
    if any(axes.translate):
        shifts = [float(t) for t in axes.translate]
        transforms.append({"type": "translation", "translation": shifts})
    return transforms
