"""What a batch is told, and what became of each item: plain values that can travel."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unet_studio.batch.inside import is_listed
from unet_studio.batch.items import Item
from unet_studio.batch.results import OVERLAY
from unet_studio.images.records import LABELS_AT, outputs_of, read_record, record_path
from unet_studio.images.writers import beside_labels
from unet_studio.images.zarr_marker import is_complete
from unet_studio.recipe import Recipe

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard


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
    card : ModelCard or None
        Of the recipe's model: what the recipe leaves to the model is looked up there.
    """

    recipe: Recipe
    model_sha256: str = ""
    probabilities: bool = False
    through_disk: bool = False
    redo: bool = False
    overlays: bool = False
    into_zarr: str = ""
    split_above: int = 0
    card: ModelCard | None = None


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


def finished_record(
    target: Path, key: str | None = None, *, inside: Path | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """Return labels and run record of a complete result; None if there is none.

    All that the record lists has to be there whole, stores with all of their chunks. A picture
    that was lost does not count: it can be drawn anew.

    Parameters
    ----------
    target : Path
        Where the labels were planned to go. PNGs that can not hold them and streamed
        runs put them beside it.
    key : str, optional
        That of :func:`~unet_studio.batch.keys.item_key`; a result with another one does not count.
    inside : Path, optional
        Where the labels were planned to go instead, within the image.
    """
    if inside is not None:
        record = record_path(target)
        content = read_record(record)
        # Not where the record says they are: the folders may be reached in another way now.
        same = LABELS_AT in content and _is_of(content, key) and _is_whole(record)
        return (inside, content) if same and is_listed(inside, _key(content)) else None
    places = (
        target,
        target.with_name(target.name + ".tif"),
        beside_labels(target, "labels", ".ome.zarr"),
    )
    for labels in dict.fromkeys(places):
        record = record_path(labels)
        content = read_record(record)
        listed = labels.name in outputs_of(record) and LABELS_AT not in content
        if listed and _is_of(content, key) and _is_whole(record):
            return labels, content
    return None


def _is_whole(record: Path) -> bool:
    """Whether all files that a record lists are there as written, and all stores complete."""
    sizes = read_record(record).get("bytes")
    known = sizes if isinstance(sizes, dict) else {}
    names = (n for n in outputs_of(record) if not n.endswith(f"_{OVERLAY}.png"))
    files = [record.parent / name for name in names]
    return all(is_complete(f) if f.is_dir() else _is_intact(f, known.get(f.name)) for f in files)


def _is_intact(path: Path, size: int | None) -> bool:
    """Whether a file is as long as it was written, or an image that somebody changed since.

    A file that was cut short, by a crash or a full disk, has lost its end. Labels that were
    corrected by hand have another length, too, but can be read to their end: they stay.
    """
    try:
        found = path.stat().st_size if path.is_file() else 0
    except OSError:
        return False
    if found == size or not found:
        return found == size
    if path.suffix == ".csv":
        return found > (size or 0)
    return _is_readable(path)


def _is_readable(path: Path) -> bool:
    from unet_studio.images.readers import read_image

    try:
        read_image(path).read()
    except Exception:  # whatever a damaged file makes a reader say
        return False
    return True


def _is_of(content: dict[str, Any], key: str | None) -> bool:
    """Whether a record is that of a batch, with this key if one is given."""
    return bool(_key(content)) and key in (None, _key(content))


def _key(content: dict[str, Any]) -> str:
    batch = content.get("batch")
    return str(batch.get("key") or "") if isinstance(batch, dict) else ""
