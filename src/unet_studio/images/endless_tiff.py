"""Refuse TIFF files of a few hundred bytes that would keep tifffile busy without end.

It lists all planes and pages of a file before it can be asked how many there are: a billion
that are missing, if OME-XML promises them, and those of a list that runs in a circle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from unet_studio.errors import ImageError

# A list of so many missing planes takes 8 MB. Planes that are there have an entry in the
# file of more bytes than this; other files of the same image may hold some of the million.
_HARMLESS = 1_000_000
_ENTRY_BYTES = 100
# More tags than this no page has, for tifffile too.
_MOST_TAGS = 4096


def check_chain(path: Path, file: Any) -> None:
    """Follow the list of pages, each of which says where the next one is.

    Parameters
    ----------
    path : Path
    file : tifffile.TiffFile
        Its ``series`` have not been looked at yet.

    Raises
    ------
    ImageError
    """
    offset, seen = int(file.pages.first.offset), set[int]()
    while offset not in seen:
        seen.add(offset)
        offset = next_page(file, offset)
        if not 0 < offset < file.filehandle.size:
            return
    raise ImageError(
        f"{path} is damaged: its list of pages runs in a circle. Copy or download it again."
    )


def next_page(file: Any, offset: int) -> int:
    """Return where the page after one is, as that one says; 0 if it is the last.

    Parameters
    ----------
    file : tifffile.TiffFile
    offset : int
        Of the page, in bytes. The next one may be said to lie behind the end of the file.
    """
    form, stream = file.tiff, file.filehandle
    order: Literal["little", "big"] = "little" if form.byteorder == "<" else "big"
    stream.seek(offset)
    tags = int.from_bytes(stream.read(form.tagnosize), order)
    if tags > _MOST_TAGS:
        return 0
    stream.seek(offset + form.tagnosize + tags * form.tagsize)
    return int.from_bytes(stream.read(form.offsetsize), order)


def check_planes(path: Path, file: Any) -> None:
    """Compare the planes that OME-XML promises with the size of the file.

    Parameters
    ----------
    path : Path
    file : tifffile.TiffFile
        Its ``series`` have not been looked at yet.

    Raises
    ------
    ImageError
    """
    if not file.is_ome:
        return
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except ElementTree.ParseError:
        return  # tifffile reads on without it
    most = _HARMLESS + path.stat().st_size // _ENTRY_BYTES
    promised = max(_promised(root, int(file.pages.first.size)), default=0)
    if promised > most:
        raise ImageError(
            f"{path} declares {promised:,} planes, more than a file of "
            f"{path.stat().st_size:,} bytes can belong to: it is damaged. Copy or download it "
            "again."
        )


def _promised(root: ElementTree.Element, page: int) -> Iterator[int]:
    """Yield each number of planes that tifffile would count up to."""
    for element in root.iter():
        kind, said = element.tag, element.attrib
        if kind.endswith("Pixels"):
            sizes = [_number(said.get(f"Size{axis}"), 1) for axis in "TCZYX"]
            yield math.prod(sizes) // max(1, page)
        elif kind.endswith("TiffData"):
            yield max(_number(said.get(key), 0) for key in ("NumPlanes", "PlaneCount"))
        elif kind[:-1].endswith("Along"):
            start, end = (_number(said.get(key), 0) for key in ("Start", "End"))
            yield math.ceil(abs(end - start) / (abs(_number(said.get("Step"), 1)) or 1))


def _number(text: str | None, missing: float) -> Any:
    """Return a whole number, or any other; what is none is refused by tifffile."""
    for kind in (int, float):
        try:
            value = kind(text) if text is not None else missing
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    return missing
