"""Where the results of each item go: the input's tree, no two items in one place."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from unet_studio.batch.items import Item
from unet_studio.batch.manifest import MANIFEST
from unet_studio.batch.results import OVERLAY
from unet_studio.images.records import is_foreign, outputs_of, record_path
from unet_studio.images.writers import beside_labels

# What is put behind a stem (_probabilities.ome.zarr.json) has to fit into 255 bytes, too.
_LONGEST_STEM = 200


def plan_targets(items: Iterable[Item], output: Path) -> dict[Item, Path]:
    """Return where the labels of each item go.

    All other results of an item are called after the same stem. Items that would share one
    (``a.png`` and ``a.tif``; names that differ in case, or in how accents are encoded) get
    their suffix into it, and a number if that is not enough. No input is ever a target, and
    no file that was there before the first batch.

    Parameters
    ----------
    items : iterable of Item
    output : Path

    Returns
    -------
    dict of Item to Path
        Injective, in the order of ``items``.
    """
    items = list(items)
    # Later, labels without a record are those of a run that was killed just then.
    first = not (output / MANIFEST).is_file()
    inputs = {_folded(str(item.path.absolute())) for item in items}
    kinds: dict[str, set[str]] = {}
    for item in items:
        kinds.setdefault(_folded(_place(item)), set()).add(item.suffix.lower())
    taken: set[str] = set()
    targets: dict[Item, Path] = {}
    for item in items:
        stem = _fitting(item.stem)
        if len(kinds[_folded(_place(item))]) > 1:
            stem += item.suffix.replace(".", "_").lower()
        folder = output.joinpath(*item.folder)
        unique, number = stem, 2
        while (
            _folded(str(folder / unique)) in taken
            or not inputs.isdisjoint(_places(_target(folder, unique, item)))
            or (first and _is_taken(_target(folder, unique, item)))
        ):
            unique, number = f"{stem}_{number}", number + 1
        taken.add(_folded(str(folder / unique)))
        targets[item] = _target(folder, unique, item)
    return targets


def _is_taken(target: Path) -> bool:
    """Whether there are labels, or a picture, that no run record lists."""
    overlay = beside_labels(target, OVERLAY, ".png")
    return is_foreign(target) or (
        os.path.lexists(overlay) and overlay.name not in outputs_of(record_path(target))
    )


def _target(folder: Path, stem: str, item: Item) -> Path:
    suffix = item.suffix.lower()
    suffix = ".png" if suffix in (".jpg", ".jpeg") else suffix
    return folder / f"{stem}_labels{suffix or '.ome.zarr'}"


def _places(target: Path) -> set[str]:
    files = (
        target,
        target.with_name(target.name + ".tif"),
        beside_labels(target, "labels", ".ome.zarr"),
        beside_labels(target, "probabilities"),
        beside_labels(target, "probabilities", ".ome.zarr"),
        beside_labels(target, OVERLAY, ".png"),
    )
    return {_folded(os.path.normpath(file.absolute())) for file in files}


def _place(item: Item) -> str:
    return "/".join((*item.folder, item.stem))


def _folded(name: str) -> str:
    """Return a form to compare by: file systems differ in case and in encoded accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _fitting(stem: str) -> str:
    """Shorten a stem that leaves no room for what is put behind it."""
    encoded = os.fsencode(stem)
    if len(encoded) <= _LONGEST_STEM:
        return stem
    digest = hashlib.sha256(encoded).hexdigest()[:12]
    return encoded[: _LONGEST_STEM - 13].decode(errors="ignore") + "~" + digest
