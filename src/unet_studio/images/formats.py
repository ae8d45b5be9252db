"""The file formats: one line each leads to the module that reads and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unet_studio.axes import Axes
from unet_studio.images.volume import Volume
from unet_studio.registry import Registry


class Reader(Protocol):
    """Reads one file format. May carry ``suffixes``, if it comes from a plug-in."""

    def __call__(self, path: Path, axes: str | None, series: int, level: int) -> Volume:
        """Open ``path`` lazily; raise ImageError, AxesError or what the library raises."""
        ...


class Writer(Protocol):
    """Writes one file format, atomically."""

    def __call__(
        self, array: Any, axes: Axes, target: Path, *, metadata: Mapping[str, Any], labels: bool
    ) -> Path:
        """Write integer labels or (``labels=False``) numbers; return where they went."""
        ...


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes
    ----------
    name : str
        What the registries call it.
    words : str
        What messages call it.
    suffixes : tuple of str
        In lower case, with the leading dot; the longest that fits a name counts.
    module : str
        Has ``read`` (a :class:`Reader`) and ``write`` (a :class:`Writer`).
    """

    name: str
    words: str
    suffixes: tuple[str, ...]
    module: str


# One new file and one line here add a format.
FORMATS = (
    Format("tiff", "TIFF", (".ome.tif", ".ome.tiff", ".tif", ".tiff"), "unet_studio.images.tiff"),
    Format("ome-zarr", "OME-Zarr", (".ome.zarr", ".zarr"), "unet_studio.images.ome_zarr"),
    Format("nifti", "NIfTI", (".nii.gz", ".nii"), "unet_studio.images.nifti"),
    Format("picture", "PNG or JPEG", (".png", ".jpg", ".jpeg"), "unet_studio.images.pictures"),
)

READERS: Registry[Reader] = Registry(
    "image reader",
    {f.name: f"{f.module}:read" for f in FORMATS},
    entry_points="unet_studio.readers",
)
WRITERS: Registry[Writer] = Registry(
    "image writer",
    {f.name: f"{f.module}:write" for f in FORMATS},
    entry_points="unet_studio.writers",
)

# Any of these makes a folder a Zarr store.
_ZARR_FILES = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def suffix_table() -> dict[str, str]:
    """Return every known suffix and the name of its format, plug-ins included."""
    table = {suffix: f.name for f in FORMATS for suffix in f.suffixes}
    for name in READERS.names():
        if name not in table.values():
            for suffix in getattr(READERS.load(name), "suffixes", ()):
                table.setdefault(suffix.lower(), name)
    return table


def split_suffix(path: Path) -> tuple[str, str]:
    """Split a file name into its stem and the longest known suffix, as it is spelt.

    ``cells.ome.tif`` gives ``("cells", ".ome.tif")``, an unknown suffix stays with
    the stem.
    """
    lower = path.name.lower()
    fitting = [s for s in suffix_table() if lower.endswith(s) and len(s) < len(lower)]
    length = max(map(len, fitting), default=0)
    return (path.name[:-length], path.name[-length:]) if length else (path.name, "")


def format_of(path: Path) -> str | None:
    """Return the name of the format of a file or Zarr folder; None if it is not known."""
    suffix = split_suffix(path)[1].lower()
    if suffix:
        return suffix_table()[suffix]
    return "ome-zarr" if is_zarr(path) else None


def is_zarr(path: Path) -> bool:
    """Whether a path is a folder with Zarr metadata."""
    return path.is_dir() and any((path / name).is_file() for name in _ZARR_FILES)


def words_of(name: str) -> str:
    """Return what messages call a format."""
    return next((f.words for f in FORMATS if f.name == name), name)
