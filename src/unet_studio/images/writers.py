"""Write labels and probabilities in the family of their input, whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, OutputError
from unet_studio.images.atomic import atomic_file, cannot_write
from unet_studio.images.formats import WRITERS, format_of, split_suffix, suffix_table
from unet_studio.images.records import RECORD, is_foreign, is_record, outputs_of, record_path
from unet_studio.images.zarr_marker import is_ours

__all__ = [
    "WRITERS",
    "beside_labels",
    "disown",
    "labels_path",
    "labels_paths",
    "output_path",
    "record_path",
    "remove_files",
    "remove_records",
    "write_array",
    "write_labels",
    "write_record",
]


def output_path(input_path: Path | str, output_dir: Path | str, what: str) -> Path:
    """Return where a result for an input goes: ``<stem>_<what>`` in the input's family.

    JPEG would blur, so a JPEG's results are PNG. An input of unknown family, or of one that
    is only read, gets an OME-Zarr, which holds everything.
    """
    stem, suffix = split_suffix(Path(input_path))
    if suffix.lower() in (".jpg", ".jpeg"):
        suffix = ".png"
    if suffix and suffix_table()[suffix.lower()] not in WRITERS:
        suffix = ""
    return Path(output_dir) / f"{stem}_{what}{suffix or '.ome.zarr'}"


def labels_path(input_path: Path | str, output_dir: Path | str) -> Path:
    """Return where the labels of an input go: ``cells.ome.tif`` to ``cells_labels.ome.tif``."""
    return output_path(input_path, output_dir, "labels")


def labels_paths(inputs: Iterable[Path | str], output_dir: Path | str) -> dict[Path, Path]:
    """Return where the labels of many inputs go, each to a stem of its own.

    Every other result of an input (table, probabilities, record) is called after
    the same stem, so no two inputs share any file. Inputs that would share a stem
    get their old suffix into the new name (``a.png`` and ``a.tif`` become ``a_png``
    and ``a_tif``), and a number if that is not enough (files of one name from two
    folders), or if a file of that name is there that is no result of ours.

    Parameters
    ----------
    inputs : iterable of Path or str
        An input that is named twice counts once.
    output_dir : Path or str

    Returns
    -------
    dict of Path to Path
        In the order of ``inputs``.
    """
    sources = list(dict.fromkeys(map(Path, inputs)))
    kinds: dict[str, set[str]] = {}
    for source in sources:
        stem, suffix = split_suffix(source)
        # Not told apart by case, as on macOS and Windows.
        kinds.setdefault(stem.casefold(), set()).add(suffix.lower())
    inputs_at = set(map(_place, sources))
    taken: set[str] = set()
    paths: dict[Path, Path] = {}
    for source in sources:
        stem, suffix = split_suffix(source)
        if len(kinds[stem.casefold()]) > 1:
            stem += suffix.replace(".", "_").lower()
        ending = split_suffix(labels_path(source, output_dir))[1]
        unique, number = stem, 2
        target = Path(output_dir) / f"{unique}_labels{ending}"
        # An image may have the very name that a result of another would get.
        while (
            unique.casefold() in taken
            or not inputs_at.isdisjoint(_places(target))
            or is_foreign(target)
        ):
            unique, number = f"{stem}_{number}", number + 1
            target = Path(output_dir) / f"{unique}_labels{ending}"
        taken.add(unique.casefold())
        paths[source] = target
    return paths


def _places(target: Path) -> set[str]:
    """Return where the image files of a result may go, in a form to compare."""
    files = (
        target,
        target.with_name(target.name + ".tif"),
        beside_labels(target, "probabilities"),
    )
    return set(map(_place, files))


def _place(path: Path) -> str:
    return os.path.normpath(path.absolute()).casefold()


def beside_labels(target: Path, what: str, suffix: str | None = None) -> Path:
    """Return where another result of the same input goes: ``<stem>_<what>``.

    Parameters
    ----------
    target : Path
        Where the labels were to go, as :func:`labels_paths` said.
    what : str
        Such as "probabilities".
    suffix : str, optional
        That of the labels by default; TIFF for PNG, which has no floating point.
    """
    name, ending = split_suffix(target)
    if suffix is None:
        suffix = ".tif" if ending.lower() == ".png" else ending
    return target.with_name(f"{name.removesuffix('_labels')}_{what}{suffix}")


def write_labels(
    labels: Any,
    axes: Axes,
    path: Path | str,
    *,
    metadata: Mapping[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
) -> Path:
    """Write integer labels.

    Parameters
    ----------
    labels : array of whole numbers >= 0, axes as in ``axes`` (no C)
        Written with a type that holds the largest id.
    axes : Axes
        Scale and units are written too, where the family has a place for them.
    path : Path or str
        Its suffix chooses the family.
    metadata : mapping, optional
        ``Volume.metadata`` of the input: keeps the affine of NIfTI, and protects
        the input from being overwritten.
    record : mapping, optional
        Run record, written beside the labels, after them.

    Returns
    -------
    Path
        Where the labels are. A PNG holds ids up to 65 535; more objects and
        stacks go to a TIFF beside it, ``<name>.png.tif``.

    Raises
    ------
    OutputError
        If they are no labels, or the target is the input or can not be written.
    AxesError
        If there is a channel axis.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise OutputError(
            f"Labels are whole numbers; {array.dtype} can not be written as labels to {path}. "
            "Convert it, or write it with write_array."
        )
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise OutputError(
            f"Labels start at 0, but there is a label {int(array.min())} among those for {path}. "
            "Set it to 0, or give it another number."
        )
    if "C" in axes:
        raise AxesError(
            f"Labels have no channel axis, but the axes of those for {path} are {axes.names}. "
            "Write one channel at a time."
        )
    known = {**(metadata or {}), **({} if record is None else {"record": record})}
    written = _write(array, axes, Path(path), known, labels=True)
    if record is not None:
        write_record(record, record_path(written))
    return written


def write_array(
    array: Any, axes: Axes, path: Path | str, *, metadata: Mapping[str, Any] | None = None
) -> Path:
    """Write probabilities or other numbers.

    Parameters
    ----------
    array : array of float or int, axes as in ``axes``
    axes, path, metadata
        As in :func:`write_labels`. PNG has no floating point: such a path becomes a TIFF.

    Returns
    -------
    Path
        Where the array is.

    Raises
    ------
    OutputError
        If the target is the input or can not be written.
    """
    values = np.asarray(array)
    if values.dtype.kind not in "buif":
        raise OutputError(
            f"Values of type {values.dtype} can not be written to {path}; convert them to numbers "
            "first."
        )
    return _write(values, axes, Path(path), metadata, labels=False)


def _write(
    array: np.ndarray[Any, Any],
    axes: Axes,
    target: Path,
    metadata: Mapping[str, Any] | None,
    *,
    labels: bool,
) -> Path:
    if array.ndim != len(axes):
        raise AxesError(
            f"The result for {target} has {array.ndim} dimensions, but its axes are {axes.names}. "
            "Give one letter per dimension."
        )
    known = dict(metadata or {})
    name = format_of(target)
    if name is None or name not in WRITERS:
        raise OutputError(
            f"{target} has no suffix that can be written. Choose .tif, .ome.zarr, .nii.gz or .png."
        )
    refuse_input(target, known)
    writer = WRITERS.load(name)
    older = remove_records(target) if labels else ()
    written = writer(array, axes, target, metadata=known, labels=labels)
    remove_files(older, written)
    return written


def refuse_input(target: Path, metadata: Mapping[str, Any]) -> None:
    """Refuse a target that is the input, or a folder around it.

    Raises
    ------
    OutputError
    """
    if "path" not in metadata:
        return
    source = Path(metadata["path"])
    same = Path(os.path.normpath(target.absolute())) == Path(os.path.normpath(source))
    # A link at the target is replaced, so what it points to is in no danger.
    if not same and not target.is_symlink() and target.exists() and source.exists():
        same = target.samefile(source) or target.resolve() in source.resolve().parents
    if same:
        raise OutputError(
            f"{target} is the input itself; it would be overwritten. Choose another output "
            "folder or name."
        )


def remove_records(labels: Path) -> tuple[Path, ...]:
    """Remove the run records of an older result, before it is replaced.

    A record only lies beside results that are complete, and these are about not
    to be.

    Parameters
    ----------
    labels : Path
        Where labels are about to be written. Those of a PNG may be in the TIFF
        beside it.

    Returns
    -------
    tuple of Path
        All that the older result consists of, for :func:`remove_files` when the new labels
        are there: a table or a picture of others beside them would not be true. A run with
        other settings may have fewer of them; a PNG may hold ids where the new one can not.

    Raises
    ------
    OutputError
        If a record can not be removed.
    """
    older: list[Path] = []
    for path in (labels, labels.with_name(labels.name + ".tif")):
        record = record_path(path)
        if not is_record(record):
            continue
        names = sorted(outputs_of(record))
        older += [path.with_name(name) for name in names if Path(name).name == name]
        try:
            record.unlink()
        except OSError as error:
            raise cannot_write(record, error) from error
        if path.is_file():
            older.append(path)
    return tuple(older)


def remove_files(older: Iterable[Path], *new: Path | None) -> None:
    """Remove what an older result consisted of.

    Parameters
    ----------
    older : iterable of Path
        As :func:`remove_records` returned it. Of folders, only Zarr stores that this program
        wrote are removed.
    *new : Path or None
        What has been written anew, and stays.
    """
    for path in older:
        if path in new:
            continue
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
        elif is_ours(path):
            shutil.rmtree(path, ignore_errors=True)


def disown(target: Path, names: Iterable[str]) -> None:
    """Take files out of the records of results in other families, such as TIFF.

    Tables of one stem have one name, so a run that writes labels of another family
    replaces them; that other result keeps its labels, and a record that says so.

    Parameters
    ----------
    target : Path
        After which all files of the new result are called.
    names : iterable of str
        All files of the new result.

    Raises
    ------
    OutputError
        If a record can not be written.
    """
    taken = set(names)
    for record in sorted(target.parent.glob(glob.escape(split_suffix(target)[0]) + ".*" + RECORD)):
        if taken & outputs_of(record):
            content = json.loads(record.read_bytes())
            content["outputs"] = [name for name in content["outputs"] if name not in taken]
            content.pop("batch", None)  # no longer complete: done again where it is asked for
            write_record(content, record)


def write_record(record: Mapping[str, Any], path: Path | str) -> Path:
    """Write a run record as JSON.

    Parameters
    ----------
    record : mapping
        Text, numbers, lists and mappings; numpy numbers are converted.
    path : Path or str

    Raises
    ------
    OutputError
        If the folder or disk does not take it.
    """
    path = Path(path)
    try:
        text = json.dumps(record, indent=2, ensure_ascii=False, default=_plain).encode()
    except UnicodeEncodeError:  # a name of a file that is no text
        text = json.dumps(record, indent=2, default=_plain).encode()
    with atomic_file(path) as stream:
        stream.write(text + b"\n")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)
