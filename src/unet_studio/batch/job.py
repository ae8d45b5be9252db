"""What a batch is told, and what became of each item: plain values that can travel."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unet_studio.batch.inside import LABELS, is_listed
from unet_studio.batch.items import Item
from unet_studio.images.records import LABELS_AT, outputs_of, read_record, record_path
from unet_studio.images.writers import beside_labels
from unet_studio.images.zarr_marker import is_complete
from unet_studio.recipe import Recipe

_READ_BYTES = 2**20
# Of a store's files these are hashed; of the others their names, sizes and times.
_METADATA = (".json", ".zattrs", ".zgroup", ".zarray", ".xml")


@dataclass(frozen=True)
class Task:
    """An item and where its labels go.

    Attributes
    ----------
    item : Item
    target : Path
        After which all of its results are called.
    inside : Path or None
        Where the labels go instead: into the image itself, an OME-Zarr.
    """

    item: Item
    target: Path
    inside: Path | None = None


@dataclass(frozen=True)
class Job:
    """What holds for all items.

    Attributes
    ----------
    recipe : Recipe
    model_sha256 : str
        Of the recipe's model; empty if it is not from a file.
    probabilities, through_disk : bool
        As for ``unet-studio segment``.
    redo : bool
        Do items again that are complete.
    overlays : bool
        Write a small picture of each result on its image.
    into_zarr : str
        Name of the labels inside images that are OME-Zarrs; empty if they go elsewhere.
    split_above : int
        Images of more pixels (voxels) than this are shared out to all workers; 0 for none.
        Decides nothing about the result.
    """

    recipe: Recipe
    model_sha256: str = ""
    probabilities: bool = False
    through_disk: bool = False
    redo: bool = False
    overlays: bool = False
    into_zarr: str = ""
    split_above: int = 0

    @property
    def key(self) -> str:
        """Digest of everything but the input that decides a result. Not the device."""
        values = self.recipe.model_dump(mode="json", exclude={"device"})
        if self.model_sha256:
            values["model"] = self.model_sha256
        values["written"] = [
            self.probabilities, self.through_disk, self.overlays, self.into_zarr
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class ItemResult:
    """What became of one item.

    Attributes
    ----------
    name : str
    state : {"done", "skipped", "failed"}
        "skipped": it was complete already.
    labels : str
        Path of the labels; empty if it failed.
    found : str
        In words: "57 objects".
    table, overlay : str
        Paths of the table of its objects and of the small picture; empty if there is none.
    sizes : tuple of float, or None
        Quartiles (25 %, median, 75 %) of the sizes of its objects, if they were measured.
    unit : str
        Of these: "area [micrometer^2]".
    objects : int
    seconds : float
        From reading to the run record, waiting for other items included.
    reason : str
        Why it failed.
    path : str
    series : int
        The image.
    """

    name: str
    state: Literal["done", "skipped", "failed"]
    labels: str = ""
    found: str = ""
    objects: int = 0
    seconds: float = 0.0
    reason: str = ""
    table: str = ""
    overlay: str = ""
    sizes: tuple[float, float, float] | None = None
    unit: str = ""
    path: str = ""
    series: int = 0


@dataclass(frozen=True)
class ToSplit:
    """Says of an item that it is for all workers, not for the one that was asked."""

    task: Task


def item_key(job: Job, item: Item) -> str:
    """Return the digest of all that decides an item's result: recipe, model and input.

    Raises
    ------
    OSError
        If the input can not be read.
    """
    digest = hashlib.sha256(f"{job.key} {item.series} ".encode())
    if item.path.is_dir():
        for line in _listing(item.path):
            digest.update(line)
    elif item.path.is_file():  # reading a FIFO would never end
        with item.path.open("rb") as stream:
            while block := stream.read(_READ_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _listing(folder: Path) -> Iterator[bytes]:
    for parent, folders, names in os.walk(folder):
        if parent == str(folder) and LABELS in folders:
            folders.remove(LABELS)  # what was made of the image, perhaps by us
        folders.sort()
        for name in sorted(names):
            path = Path(parent) / name
            facts = path.stat()
            place = path.relative_to(folder).as_posix()
            yield os.fsencode(f"{place} {facts.st_size} ")
            yield path.read_bytes() if name.endswith(_METADATA) else b"%d" % facts.st_mtime_ns


def finished_record(
    target: Path, key: str | None = None, *, inside: Path | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Return labels and run record of a complete result; None if there is none.

    Parameters
    ----------
    target : Path
        Where the labels were planned to go. PNGs that can not hold them and streamed
        runs put them beside it.
    key : str, optional
        That of :func:`item_key`; a result with another one does not count.
    inside : Path, optional
        Where the labels were planned to go instead, within the image.
    """
    if inside is not None:
        content = read_record(record_path(target))
        same = content.get(LABELS_AT) == str(inside) and _is_of(content, key)
        there = all((target.parent / n).exists() for n in content.get("outputs", ()))
        return (inside, content) if same and there and is_listed(inside) else None
    places = (
        target,
        target.with_name(target.name + ".tif"),
        beside_labels(target, "labels", ".ome.zarr"),
    )
    for labels in dict.fromkeys(places):
        record = record_path(labels)
        outputs = outputs_of(record)
        if not outputs or not all((record.parent / name).exists() for name in outputs):
            continue
        stores = [record.parent / name for name in outputs if (record.parent / name).is_dir()]
        content = read_record(record)
        if LABELS_AT not in content and _is_of(content, key) and all(map(is_complete, stores)):
            return labels, content
    return None


def _is_of(content: dict[str, Any], key: str | None) -> bool:
    """Whether a record is that of a batch, with this key if one is given."""
    batch = content.get("batch")
    known = batch.get("key") if isinstance(batch, dict) else None
    return bool(known) and key in (None, known)
