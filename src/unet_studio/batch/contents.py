"""Which images there are in one file or store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from unet_studio.images.endless_tiff import check_chain, check_planes
from unet_studio.plain_json import parse_json

_LARGEST_ATTRIBUTES = 64 * 2**20


def images_in_tiff(path: Path) -> tuple[list[int], frozenset[str]]:
    """Return the series of a TIFF that are images, and what other files have a part of them.

    Series are pages of one shape; thumbnails of others are left out. Of a file that is damaged
    it is the first: reading it will say how. The files are those of an OME-TIFF that is more
    than one, as real paths.
    """
    import tifffile

    try:
        if not path.is_file():
            return [0], frozenset()
        with tifffile.TiffFile(path) as file:
            check_chain(path, file)
            check_planes(path, file)
            series = file.series
            whole = [n for n, one in enumerate(series) if not one.keyframe.is_reduced]
            pages = (page for one in series for page in one.pages) if file.is_ome else ()
            holders = {page.parent for page in pages if page is not None} - {file}
            files = frozenset(os.path.realpath(holder.filehandle.path) for holder in holders)
            return whole or [0], files
    except Exception:
        return [0], frozenset()


def images_inside(store: Path) -> list[str]:
    """Return the paths of the images in a Zarr store; [""] if it is one."""
    ome = _ome(store)
    if "plate" in ome and "multiscales" not in ome:
        wells = [w.get("path") for w in ome["plate"].get("wells", []) if isinstance(w, dict)]
        names = [f"{w}/{i}" for w in wells if isinstance(w, str) for i in _fields(store / w)]
        return names or [""]
    if "well" in ome and "multiscales" not in ome:
        return _fields(store) or [""]
    if "bioformats2raw.layout" in ome and "multiscales" not in ome:
        numbers = sorted(int(p.name) for p in store.iterdir() if p.name.isdigit())
        return [str(n) for n in numbers] or [""]
    return [""]


def _fields(well: Path) -> list[str]:
    described = _ome(well).get("well")
    images = described.get("images", []) if isinstance(described, dict) else []
    return [str(image["path"]) for image in images if isinstance(image, dict) and "path" in image]


def _ome(store: Path) -> dict[str, Any]:
    """Return the OME metadata of a Zarr group; empty if there are none."""
    for name in ("zarr.json", ".zattrs"):
        path = store / name
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_ATTRIBUTES:
                continue
            content = parse_json(path.read_bytes())
        except (OSError, ValueError):
            return {}
        content = content.get("attributes", {}) if name == "zarr.json" else content
        ome = content.get("ome", content) if isinstance(content, dict) else {}
        return ome if isinstance(ome, dict) else {}
    return {}
