"""Write labels and probabilities in the family of their input, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, OutputError
from unet_studio.images.atomic import atomic_file
from unet_studio.images.formats import WRITERS, format_of, split_suffix

__all__ = [
    "WRITERS",
    "labels_path",
    "labels_paths",
    "output_path",
    "record_path",
    "write_array",
    "write_labels",
    "write_record",
]


def output_path(input_path: Path | str, output_dir: Path | str, what: str) -> Path:
    """Return where a result for an input goes: ``<stem>_<what>`` in the input's family.

    JPEG would blur, so a JPEG's results are PNG. An input of unknown family gets
    an OME-Zarr, which holds everything.
    """
    stem, suffix = split_suffix(Path(input_path))
    if suffix.lower() in (".jpg", ".jpeg"):
        suffix = ".png"
    return Path(output_dir) / f"{stem}_{what}{suffix or '.ome.zarr'}"


def labels_path(input_path: Path | str, output_dir: Path | str) -> Path:
    """Return where the labels of an input go: ``cells.ome.tif`` to ``cells_labels.ome.tif``."""
    return output_path(input_path, output_dir, "labels")


def labels_paths(inputs: Iterable[Path | str], output_dir: Path | str) -> dict[Path, Path]:
    """Return where the labels of many inputs go, each to a name of its own.

    Inputs that would share a name (``a.png`` and ``a.jpg``, or files of one name
    from two folders) get their old suffix or a number into the new name.

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
    taken: set[str] = set()
    paths: dict[Path, Path] = {}
    for source in dict.fromkeys(map(Path, inputs)):
        stem, suffix = split_suffix(source)
        kind = suffix.replace(".", "_").lower()
        target = labels_path(source, output_dir)
        ending = split_suffix(target)[1]
        number = 1
        # Not told apart by case, as on macOS and Windows.
        while target.name.casefold() in taken:
            tail = kind if number == 1 else f"{kind}_{number}"
            target = Path(output_dir) / f"{stem}{tail}_labels{ending}"
            number += 1
        taken.add(target.name.casefold())
        paths[source] = target
    return paths


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
        If the target is the input or can not be written.
    """
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise OutputError(f"Labels are whole numbers; {array.dtype} can not be written as labels.")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise OutputError(f"Labels start at 0, but there is a label {int(array.min())}.")
    if "C" in axes:
        raise AxesError(f"Labels have no channel axis, but their axes are {axes.names}.")
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
        raise OutputError(f"Values of type {values.dtype} can not be written; convert them first.")
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
        raise AxesError(f"The result has {array.ndim} dimensions, but its axes are {axes.names}.")
    known = dict(metadata or {})
    name = format_of(target)
    if name is None or name not in WRITERS:
        raise OutputError(
            f"{target} has no suffix that can be written. Choose .tif, .ome.zarr, .nii.gz or .png."
        )
    refuse_input(target, known)
    return WRITERS.load(name)(array, axes, target, metadata=known, labels=labels)


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


def record_path(labels: Path) -> Path:
    """Return where the run record of a result goes: ``<result>.json``."""
    return labels.with_name(labels.name + ".json")


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
    text = json.dumps(record, indent=2, ensure_ascii=False, default=_plain)
    with atomic_file(path) as stream:
        stream.write(text.encode() + b"\n")
    return path


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return str(value)
