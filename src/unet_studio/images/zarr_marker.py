"""The marker that tells a whole Zarr store from the remains of an interrupted run.

A store whose chunks are partly missing opens without an error and reads as
background. The marker is written last, and says which files there must be. It
is an attribute of the root group: Zarr warns of files that it does not know.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_studio.errors import ImageError
from unet_studio.plain_json import parse_json
from unet_studio.versions import version_of

MARKER = "unet_studio_complete"
_ROOT = "zarr.json"


def write_marker(folder: Path, record: Mapping[str, Any] | None = None, key: str = "") -> None:
    """Mark a store as complete, listing its files by number, bytes and digest of names.

    Parameters
    ----------
    folder : Path
    record : mapping, optional
        Run record, of which a digest is kept.
    key : str
        Of what the store was made (:func:`unet_studio.batch.keys.item_key`), for whoever
        has to tell it from what another run put in the same place.
    """
    release = version_of("napari-unet-studio") or ""  # run from a source tree
    content = {
        "written_by": f"U-Net Studio {release}".strip(),
        **_summary(folder),
    }
    if record is not None:
        text = json.dumps(record, sort_keys=True, default=str)
        content["record_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    if key:
        content["key"] = key
    described = json.loads((folder / _ROOT).read_bytes())
    described.setdefault("attributes", {})[MARKER] = content
    (folder / _ROOT).write_text(json.dumps(described, indent=2), encoding="utf-8")


def is_ours(folder: Path) -> bool:
    """Whether a folder is a store that this program finished (it may have been damaged since)."""
    return _promise(folder) is not None


def key_of(folder: Path) -> str:
    """Return of what a store was made, as its marker says; empty if it does not."""
    return str((_promise(folder) or {}).get("key", ""))


def is_complete(folder: Path) -> bool:
    """Whether a store was finished and all of its files are still there."""
    try:
        check_complete(folder)
    except ImageError:
        return False
    return True


def check_complete(folder: Path) -> None:
    """Refuse a store that was not finished or lost files since.

    Raises
    ------
    ImageError
        Naming the first missing chunk.
    """
    promised = _promise(folder)
    if promised is None:
        raise ImageError(f"{folder} was not finished. Run the segmentation again.")
    if _summary(folder).items() <= promised.items():
        return
    lost = next(_missing_chunks(folder), None)
    what = f"chunk {lost} is missing" if lost else "its files are not those that were written"
    raise ImageError(f"{folder} is damaged: {what}. Restore it or run the segmentation again.")


def _promise(folder: Path) -> dict[str, Any] | None:
    try:
        described = parse_json((folder / _ROOT).read_bytes())
        promised = described["attributes"][MARKER]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return promised if isinstance(promised, dict) else None


def _summary(folder: Path) -> dict[str, Any]:
    sizes = {
        (Path(parent) / name).relative_to(folder).as_posix(): (Path(parent) / name).stat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
        # Hidden files are the desktop's (.DS_Store), not ours.
        if not name.startswith(".")
    }
    sizes.pop(_ROOT, None)  # holds the marker itself
    # Labels may be added to an image later, by us or others; no store is written with them.
    sizes = {name: size for name, size in sizes.items() if not name.startswith("labels/")}
    listing = "\n".join(f"{name} {size}" for name, size in sorted(sizes.items()))
    return {
        "files": len(sizes),
        "bytes": sum(sizes.values()),
        "sha256_of_listing": hashlib.sha256(listing.encode()).hexdigest(),
    }


def _missing_chunks(folder: Path) -> Iterator[str]:
    for described in sorted(folder.rglob(_ROOT)):
        for chunk in _chunks_of(described):
            if not chunk.is_file():
                yield chunk.relative_to(folder).as_posix()


def _chunks_of(described: Path) -> Iterator[Path]:
    """Yield where the chunks of an array are; nothing for a group, or if it can not be told."""
    try:
        metadata = parse_json(described.read_bytes())
        if metadata.get("node_type") != "array":
            return
        chunks = metadata["chunk_grid"]["configuration"]["chunk_shape"]
        counts = [math.ceil(n / c) for n, c in zip(metadata["shape"], chunks, strict=True)]
        total = math.prod(counts)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        return
    for number in range(total):  # counted, not listed: a damaged file may promise billions
        place: list[str] = []
        for count in reversed(counts):
            number, index = divmod(number, count)
            place.insert(0, str(index))
        yield described.parent.joinpath("c", *place)
