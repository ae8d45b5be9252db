"""What the dialects of TIFF say about pixel size, units and channels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_studio.axes import PIXEL
from unet_studio.images.units import unit_name


@dataclass(frozen=True)
class TiffMetadata:
    """Metadata of one series of a TIFF, by axis letter.

    Attributes
    ----------
    family : str
        ``"ome-tiff"`` or ``"tiff"``.
    scale, translate, units : mapping of axis letter to value
        Only what the file says.
    channel_names : tuple of str
    """

    family: str = "tiff"
    scale: Mapping[str, float] = field(default_factory=dict)
    translate: Mapping[str, float] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()


def metadata_of(file: Any, series: int) -> TiffMetadata:
    """Return what an open ``tifffile.TiffFile`` says about one of its series.

    Metadata that can not be understood are left out: the pixels are good all the same.
    """
    kind = file.series[series].kind
    if kind == "ome":
        return _ome(file, series)
    if kind == "imagej":
        return _imagej(file)
    if kind == "shaped":
        return _shaped(file, series)
    return TiffMetadata()


def _ome(file: Any, series: int) -> TiffMetadata:
    import tifffile

    root = tifffile.xml2dict(file.ome_metadata).get("OME", {})
    images = _as_list(root.get("Image"))
    if series >= len(images):
        return TiffMetadata("ome-tiff")
    pixels = images[series].get("Pixels", {})
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis, key, default in (
        ("Z", "PhysicalSizeZ", "µm"),
        ("Y", "PhysicalSizeY", "µm"),
        ("X", "PhysicalSizeX", "µm"),
        ("T", "TimeIncrement", "s"),
    ):
        size = _positive(pixels.get(key))
        if size is not None:
            scale[axis] = size
            units[axis] = unit_name(pixels.get(f"{key}Unit", default))
    if scale.get("T") and "TimeIncrementUnit" not in pixels and set(units.values()) == {"second"}:
        units["T"] = unit_name("s")
    names = tuple(
        str(channel["Name"])
        for channel in _as_list(pixels.get("Channel"))
        if channel.get("Name") is not None
    )
    return TiffMetadata("ome-tiff", scale, {}, units, names)


def _imagej(file: Any) -> TiffMetadata:
    info = file.imagej_metadata or {}
    unit = unit_name(str(info.get("unit", "")))
    scale: dict[str, float] = {}
    units: dict[str, str] = {}
    for axis, tag in (("X", "XResolution"), ("Y", "YResolution")):
        value = file.pages[0].tags.get(tag)
        step = None if value is None else _positive(_inverse(value.value))
        if step is not None and unit != PIXEL:
            scale[axis], units[axis] = step, unit
    spacing = _positive(info.get("spacing"))
    if spacing is not None and unit != PIXEL:
        scale["Z"], units["Z"] = spacing, unit
    interval = _positive(info.get("finterval"))
    if interval is not None:
        scale["T"], units["T"] = interval, unit_name(str(info.get("tunit", "s")))
    labels = info.get("Labels") or ()
    channels = int(info.get("channels", 1) or 1)
    names = tuple(str(text) for text in labels) if len(labels) == channels > 1 else ()
    return TiffMetadata("tiff", scale, {}, units, names)


def _shaped(file: Any, series: int) -> TiffMetadata:
    every = file.shaped_metadata or ()
    info = every[series] if series < len(every) else {}
    axes = str(info.get("axes", ""))
    values: dict[str, list[Any]] = {
        key: list(info[key])
        for key in ("scale", "translate", "units")
        if isinstance(info.get(key), list | tuple) and len(info[key]) == len(axes)
    }
    scale = {a: _positive(s) for a, s in zip(axes, values.get("scale", ()), strict=False)}
    shift = {a: _finite(s) for a, s in zip(axes, values.get("translate", ()), strict=False)}
    return TiffMetadata(
        "tiff",
        {a: s for a, s in scale.items() if s is not None},
        {a: s for a, s in shift.items() if s is not None},
        {a: unit_name(str(u)) for a, u in zip(axes, values.get("units", ()), strict=False)},
    )


def _as_list(value: Any) -> list[Any]:
    """XML elements come alone or in a list, depending on how many there are."""
    if value is None:
        return []
    return [v for v in (value if isinstance(value, list | tuple) else [value]) if v]


def _inverse(resolution: Any) -> float | None:
    pixels, per = resolution if isinstance(resolution, tuple) else (resolution, 1)
    return float(per) / float(pixels) if pixels else None


def _finite(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _finite(value)
    return number if number is not None and number > 0 else None
