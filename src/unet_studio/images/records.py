"""Run records beside results: which files of a folder are results, and of what."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unet_studio.images.formats import split_suffix
from unet_studio.plain_json import parse_json

RECORD = ".json"
# In records of labels that are elsewhere: where.
LABELS_AT = "labels_at"
_OURS = "napari-unet-studio"
# A record is a few kilobytes; a larger JSON file beside an image is something else.
_LARGEST = 16 * 2**20


def record_path(labels: Path) -> Path:
    """Return where the run record of a result goes: ``<result>.json``."""
    return labels.with_name(labels.name + RECORD)


def is_foreign(labels: Path) -> bool:
    """Whether a file is there that no run record beside it lists: the user's own, perhaps."""
    return os.path.lexists(labels) and labels.name not in outputs_of(record_path(labels))


def is_record(path: Path) -> bool:
    """Whether a path is a run record that this program wrote."""
    return bool(read_record(path))


def outputs_of(record: Path) -> frozenset[str]:
    """Return the names of the results that a run record lists; none if it is not one.

    Parameters
    ----------
    record : Path
        Any file, or nothing. ``a.tif.json`` is believed only if it lists ``a.tif``, or
        says where else these labels are.
    """
    content = read_record(record)
    outputs = content.get("outputs")
    names = frozenset(n for n in outputs if isinstance(n, str)) if outputs else frozenset()
    own = record.name.removesuffix(RECORD) in names or LABELS_AT in content
    return names if own else frozenset()


def read_record(path: Path) -> dict[str, Any]:
    """Return a run record that this program wrote; empty if it is not one."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict) or not isinstance(content.get("outputs", []), list):
        return {}
    versions = content.get("versions")
    return content if isinstance(versions, dict) and _OURS in versions else {}


def without_results(paths: Iterable[Path]) -> list[Path]:
    """Leave out the results of earlier runs, each told by the run record beside it.

    Parameters
    ----------
    paths : iterable of Path
        Everything in a folder; the records are found among it.
    """
    everything = list(paths)
    results = {
        name
        for path in everything
        if path.name.endswith(RECORD) and split_suffix(Path(path.name.removesuffix(RECORD)))[1]
        for name in outputs_of(path)
    }
    return [p for p in everything if p.name not in results]
