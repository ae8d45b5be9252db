"""What is written of one result, and what is said of it; shared by every command."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unet_studio.errors import OutputError, UNetStudioError

if TYPE_CHECKING:
    from unet_studio.images.volume import Volume
    from unet_studio.pipeline import Segmentation
    from unet_studio.streaming_results import StreamedSegmentation


Picture = Callable[[Path], Path]
Made = TypeVar("Made", "Segmentation", "StreamedSegmentation")
OVERLAY = "overlay"


@dataclass(frozen=True)
class Outcome:
    """What became of one image.

    Attributes
    ----------
    files : tuple of Path
        Labels first, run record last.
    found : str
        What was found, in words: "57 objects".
    seconds : float
    """

    files: tuple[Path, ...]
    found: str
    seconds: float


def stream_targets(target: Path, metadata: Any, probabilities: bool) -> tuple[Path, Path | None]:
    """Return where a streamed run writes labels and, if wanted, probabilities."""
    from unet_studio.images.writers import beside_labels, refuse_input

    target = beside_labels(target, "labels", ".ome.zarr")
    kept = beside_labels(target, "probabilities") if probabilities else None
    for path in filter(None, (target, kept)):
        refuse_input(path, metadata)
    return target, kept


def write_results(
    result: Segmentation,
    target: Path,
    metadata: Any,
    source: Path,
    *,
    probabilities: bool = False,
    inside: Path | None = None,
    key: str = "",
    overlay: Picture | None = None,
    extra: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write labels, tables and run record of one result; return the files, labels first.

    The record is written last, and an old one is removed first: where it is, the
    rest is complete.

    Parameters
    ----------
    result : Segmentation
    target : Path
        Where the labels go; all other files are called after it.
    metadata : mapping
        That of the image.
    source : Path
        The image.
    probabilities : bool
        Write the probabilities, too.
    inside : Path, optional
        Where the labels go instead, within the image, an OME-Zarr.
    key : str
        Of what such labels are made.
    overlay : callable, optional
        Writes the small picture to the path it is given.
    extra : mapping, optional
        Goes into the record, too.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    from unet_studio.batch.inside import write_inside
    from unet_studio.images.writers import beside_labels, write_array, write_labels

    if inside is None:
        labels = write_labels(result.labels, result.axes, target, metadata=metadata)
    else:
        labels = write_inside(result.labels, result.axes, inside, target, key)
    kept = None
    if probabilities:
        prediction, kept = result.prediction, beside_labels(target, "probabilities")
        kept = write_array(prediction.probabilities, prediction.axes, kept, metadata=metadata)
    return write_tables(result, target, source, labels, kept, overlay, extra)


def write_tables(
    result: Segmentation | StreamedSegmentation,
    target: Path,
    source: Path,
    labels: Path,
    probabilities: Path | None,
    overlay: Picture | None = None,
    extra: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write what goes beside the arrays of a result, the run record last.

    Parameters
    ----------
    result : Segmentation or StreamedSegmentation
    target : Path
        After which all files are called.
    source : Path
        The image.
    labels, probabilities : Path
        What was written already. Where the labels are in another folder than ``target``, the
        record is called after the latter and says where they are.
    overlay : callable, optional
        Writes the small picture to the path it is given.
    extra : mapping, optional
        Goes into the record, too.

    Returns
    -------
    tuple of Path
        All files of the result, labels first.
    """
    from unet_studio.images.records import LABELS_AT, record_path
    from unet_studio.images.writers import beside_labels, disown, write_record
    from unet_studio.objects.measurements import units, write_table

    files = [labels]
    if result.measurements:
        table = beside_labels(target, "objects", ".csv")
        write_table(table, result.measurements, units(result.axes))
        files.append(table)
    if result.tracks:
        tracks = beside_labels(target, "tracks", ".csv")
        write_table(tracks, result.tracks)
        files.append(tracks)
    if probabilities is not None:
        files.append(probabilities)
    if overlay is not None:
        files.append(overlay(beside_labels(target, OVERLAY, ".png")))
    elsewhere = labels.parent != target.parent
    names = [f.name for f in files[elsewhere:]]
    disown(target, names)
    record = {**result.record, **(extra or {}), "input": str(source), "outputs": names}
    record["bytes"] = {f.name: f.stat().st_size for f in files[elsewhere:] if f.is_file()}
    if elsewhere:
        record[LABELS_AT] = str(labels.absolute())
    files.append(write_record(record, record_path(target if elsewhere else labels)))
    return tuple(files)


def with_intensities(
    result: Made, volume: Volume, check: Callable[[], None] | None = None
) -> Made:
    """Return a result with the intensities of its objects, if it has measurements.

    Parameters
    ----------
    result : Segmentation or StreamedSegmentation
    volume : Volume
        The image it is of.
    check : callable, optional
        Called before each block; may raise to stop.
    """
    from unet_studio.objects.intensities import add_intensities

    if not result.measurements:
        return result
    table = add_intensities(result.measurements, result.labels, result.axes, volume, check=check)
    return replace(result, measurements=table)


def make_folder(folder: Path) -> None:
    """Make the folder for results, or refuse one that can not take them.

    Raises
    ------
    OutputError
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"The output {folder} is a file; give a folder with -o.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"The output folder {folder} can not be made: {error.strerror or error}. "
            "Choose another."
        ) from None
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The output folder {folder} can not be written to. Choose another.")


def words_of(result: Segmentation | StreamedSegmentation) -> str:
    """Say what was found: "57 objects"."""
    from unet_studio.objects.methods import METHODS

    count = result.object_count
    if METHODS.load(result.record["objects"]["method"]).makes_objects:
        linked = "linked " if result.tracks else ""
        return f"{count} {linked}object{'s' * (count != 1)}"
    return f"classes up to {count}"


def explain(error: Exception) -> str:
    """Return what the user is told of an error with one image."""
    if isinstance(error, UNetStudioError | OSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "There is not enough memory. Close other programs, or segment a part of it."
    traceback.print_exception(error)
    return f"{type(error).__name__}: {error}. This is a defect of the program; please report it."


def with_name(source: Path, message: str) -> str:
    """Put the file's name before a message that lacks it."""
    return message if source.name in message else f"{source.name}: {message}"
