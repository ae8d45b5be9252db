"""Where the results of each item go: the input's tree, no two items in one place."""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from unet_studio.batch.items import Item
from unet_studio.batch.manifest import MANIFEST
from unet_studio.batch.results import OVERLAY
from unet_studio.images.records import RECORD, is_foreign, outputs_of, read_record, record_path
from unet_studio.images.writers import beside_labels

# What is put behind a stem (_probabilities.ome.zarr.json) has to fit into 255 bytes, too.
_LONGEST_STEM = 200


def plan_targets(items: Iterable[Item], output: Path) -> dict[Item, Path]:
    """Return where the labels of each item go.

    All other results of an item are called after the same stem. Items that would share one
    (``a.png`` and ``a.tif``; names that differ in case, or in how accents are encoded) get
    their suffix into it, and a number if that is not enough. No input is ever a target, and
    no file that was there before the first batch. An item whose results are there keeps their
    name, whatever images were added: only the newcomers get the longer one.

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

    def is_free(item: Item, stem: str) -> bool:
        folder = output.joinpath(*item.folder)
        target = _target(folder, stem, item)
        return (
            _folded(str(folder / stem)) not in taken
            and inputs.isdisjoint(_places(target))
            and not (first and _is_taken(target))
        )

    stems: dict[Item, str] = {} if first else _kept_stems(items, output)
    stems = {item: stem for item, stem in stems.items() if is_free(item, stem)}
    taken |= {_folded(str(output.joinpath(*i.folder, stem))) for i, stem in stems.items()}
    for item in items:
        if item not in stems:
            short, long = _forms(item)
            form = long if len(kinds[_folded(_place(item))]) > 1 else short
            stems[item] = next(stem for stem in _numbered(form) if is_free(item, stem))
            taken.add(_folded(str(output.joinpath(*item.folder, stems[item]))))
    return {item: _target(output.joinpath(*item.folder), stems[item], item) for item in items}


def _forms(item: Item) -> tuple[str, str]:
    """Return what results of an item are called after, without and with its suffix."""
    stem = _fitting(item.stem)
    return stem, stem + item.suffix.replace(".", "_").lower()


def _numbered(stem: str) -> Iterator[str]:
    return itertools.chain([stem], (f"{stem}_{n}" for n in itertools.count(2)))


def _kept_stems(items: Iterable[Item], output: Path) -> dict[Item, str]:
    """Return what results of earlier runs are called after, for the items that have some."""
    records: dict[Path, set[str]] = {}
    stems: dict[Item, str] = {}
    claimed: set[str] = set()
    for item in items:
        folder = output.joinpath(*item.folder)
        if folder not in records:
            records[folder] = set()
            with suppress(OSError):  # not made yet
                records[folder] = {p.name for p in folder.iterdir() if p.name.endswith(RECORD)}
        stem = _kept_stem(item, folder, records[folder])
        if stem is not None and _folded(str(folder / stem)) not in claimed:
            stems[item] = stem
            claimed.add(_folded(str(folder / stem)))
    return stems


def _kept_stem(item: Item, folder: Path, records: set[str]) -> str | None:
    for form in _forms(item):
        for number, stem in enumerate(_numbered(form), 1):
            target = _target(folder, stem, item)
            there = [r for r in map(record_path, _labels_of(target)) if r.name in records]
            if any(_is_record_of(record, item) for record in there):
                return stem
            if number > 1 and not there:
                break
    return None


def _is_record_of(record: Path, item: Item) -> bool:
    content = read_record(record)
    batch = content.get("batch")
    series = batch.get("series", 0) if isinstance(batch, dict) else None
    return series == item.series and content.get("input") == str(item.path)


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


def _labels_of(target: Path) -> tuple[Path, Path, Path]:
    """Return where labels go: those that a PNG can not hold, and streamed ones, beside it."""
    streamed = beside_labels(target, "labels", ".ome.zarr")
    return target, target.with_name(target.name + ".tif"), streamed


def _places(target: Path) -> set[str]:
    files = (
        *_labels_of(target),
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
