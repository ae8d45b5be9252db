"""Open image files of any family as volumes, without reading their pixels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from unet_studio.axes import AmbiguousAxes
from unet_studio.errors import ImageError, UNetStudioError
from unet_studio.images.atomic import PARTIAL
from unet_studio.images.formats import (
    READERS,
    format_of,
    is_zarr,
    split_suffix,
    suffix_table,
    words_of,
)
from unet_studio.images.volume import Volume
from unet_studio.user_paths import user_path

__all__ = ["READERS", "image_suffixes", "is_image", "read_image"]


def image_suffixes() -> tuple[str, ...]:
    """Return the suffixes of all readable files, in lower case with the leading dot."""
    return tuple(suffix_table())


def is_image(path: Path | str) -> bool:
    """Whether a path is an image that can be tried: by its name, nothing is opened.

    Hidden files and leftovers of interrupted runs are not.
    """
    path = Path(path)
    if path.name.startswith(".") or PARTIAL in path.name:
        return False
    if path.is_dir():
        return is_zarr(path)
    return path.is_file() and format_of(path) not in (None, "ome-zarr")


def read_image(
    path: Path | str, axes: str | None = None, *, series: int = 0, level: int = 0
) -> Volume:
    """Open an image file or OME-Zarr folder.

    Parameters
    ----------
    path : Path or str
        TIFF, OME-TIFF, ImageJ TIFF, OME-Zarr (0.4, 0.5), NIfTI, PNG or JPEG.
    axes : str, optional
        One letter out of TCZYX per dimension of the file's array. Needed where
        the file does not say; overrules the file where it does.
    series : int
        Which image, in files that hold several.
    level : int
        Which resolution of a pyramid; 0 is the finest.

    Returns
    -------
    Volume
        Lazy, in the order of the file. Scale, units and translation are those of
        the file; ``metadata`` holds the family ("tiff", "ome-tiff", "ome-zarr",
        "nifti", "picture"), the path, and what a writer of the family needs.

    Raises
    ------
    ImageError
        If the file is missing, damaged, of an unknown format, or too large to
        be read; the message names it.
    AmbiguousAxes
        If the file does not say what its axes are.
    """
    path = user_path(path)
    name = _checked_format(path)
    try:
        volume = READERS.load(name)(path, axes, series, level)
    except AmbiguousAxes as error:
        example = error.candidates[0]
        raise AmbiguousAxes(
            f"{error} Pass --axes {example} on the command line or axes={example!r} in Python "
            "(whichever it is).",
            error.candidates,
        ) from None
    except UNetStudioError:
        raise
    except MemoryError as error:
        raise ImageError(
            f"{path} could not be opened: there is not enough memory. Close other programs or use "
            "a machine with more."
        ) from error
    except Exception as error:  # every library raises its own
        raise ImageError(
            f"{path} could not be opened as {words_of(name)}: {_first_line(error)}. "
            f"{_looks_like(path)}"
        ) from error
    return replace(
        volume,
        name=split_suffix(path)[0],
        source=str(path),
        metadata=MappingProxyType({**volume.metadata, "path": str(path.absolute())}),
    )


def _checked_format(path: Path) -> str:
    try:
        if not path.exists():
            if path.is_symlink():
                raise ImageError(f"{path} is a link to a file that does not exist. Mend the link.")
            where = "" if path.parent.is_dir() else f" (nor is there a folder {path.parent})"
            raise ImageError(f"There is no file {path}{where}. Check the spelling.")
        name = format_of(path)
        if path.is_dir():
            return _checked_folder(path, name)
        if not path.is_file():
            raise ImageError(f"{path} is neither a file nor a folder. Give an image file.")
        size = path.stat().st_size
    except OSError as error:
        raise ImageError(
            f"{path} can not be looked at: {error.strerror or error}. Check its permissions."
        ) from error
    if name is None:
        raise ImageError(
            f"{path} is of a format that is not known. Convert it to one of: "
            f"{', '.join(image_suffixes())}."
        )
    if name == "ome-zarr":
        raise ImageError(f"{path} is a file; an OME-Zarr image is a folder. Unpack it first.")
    if size == 0:
        raise ImageError(f"{path} is empty (0 bytes). Copy or download it again.")
    return name


def _checked_folder(path: Path, name: str | None) -> str:
    if is_zarr(path):
        return "ome-zarr"
    if name == "ome-zarr":
        raise ImageError(
            f"{path} holds no Zarr metadata (neither zarr.json nor .zattrs): the copy is not "
            "complete. Copy the whole folder again."
        )
    raise ImageError(
        f"{path} is a folder without Zarr metadata. Give the image files in it, or an OME-Zarr "
        "folder."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _looks_like(path: Path) -> str:
    """Say what a damaged file is in truth, and what to do next."""
    head = b""
    if path.is_file():
        with path.open("rb") as stream:
            head = stream.read(512).lstrip().lower()
    if head.startswith((b"<!doctype html", b"<html")):
        return (
            "It is a web page, perhaps of a login or an error, saved under this name. "
            "Download the image itself."
        )
    return "It may be damaged or not what its name says; open it elsewhere or copy it again."
