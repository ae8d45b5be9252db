"""Which images a batch consists of, each with a place in the output's tree."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from unet_studio.batch.contents import images_in_tiff, images_inside
from unet_studio.batch.inputs import Problems, expand, is_passed_over, list_folder, unreadable
from unet_studio.errors import ImageError
from unet_studio.images.formats import format_of, is_zarr, split_suffix
from unet_studio.images.readers import is_image
from unet_studio.images.records import RECORD, is_record, without_results


@dataclass(frozen=True)
class Item:
    """One image of a batch.

    Attributes
    ----------
    path : Path
        File, or OME-Zarr folder (of a plate: of one field). The whole path, where it was found.
    folder : tuple of str
        Where its results go below the output: the mirrored folders.
    stem, suffix : str
        What its results are called after, and the family they get.
    series : int
        Which image of the file.
    """

    path: Path
    folder: tuple[str, ...]
    stem: str
    suffix: str
    series: int = 0

    @property
    def name(self) -> str:
        """What messages, manifest and table call it: its place in the input's tree.

        No two items of a batch share it.
        """
        return "/".join((*self.folder, self.stem + self.suffix))


@dataclass
class FoundItems:
    """What was found.

    Attributes
    ----------
    items : list of Item
        In a stable order, each image once.
    results : int
        Results of earlier runs that were left out.
    problems : list of (str, str)
        What can not be read, and why.
    parts : int
        Files of an OME-TIFF that is listed under another of its files, the first by name.
    """

    items: list[Item] = field(default_factory=list)
    results: int = 0
    problems: Problems = field(default_factory=list)
    parts: int = 0


def find_items(inputs: Sequence[Path | str], output: Path) -> FoundItems:
    """Find the images among files, folders, globs and lists.

    Folders are descended into, links followed once. Their tree is mirrored, and that of files
    that are named, below the folder they share. Results of earlier runs (a run record
    beside them says so) are not taken, even if they are named; below folders and by patterns
    neither are hidden files, the output's own tree, and what is no image. Plates and
    collections of OME-Zarr give an item for each image in them, a TIFF of several images
    one for each.

    Parameters
    ----------
    inputs : sequence of Path or str
        ``@list.txt`` names a file with one input per line, relative to its folder. Empty
        lines and those that begin with ``#`` are comments; what a line names and is not
        there is a problem of its own.
    output : Path

    Raises
    ------
    ImageError
        If an input does not exist, a glob fits nothing, or there is no image at all.
    """
    found = FoundItems()
    paths = expand(inputs, output, found.problems)
    kinds = {p: _kind(p, found.problems) for p in paths}
    roots = [p for p, kind in kinds.items() if kind == "folder"]
    names = _root_names(roots)
    # What is no image is passed over, unless it was named: reading it says what it is.
    files = [p for p, k in kinds.items() if k == "image" or (k == "other" and paths[p])]
    loose = _mirrored(_without_results(files, found))
    seen: set[str] = set()
    together: dict[Path, frozenset[str]] = {}
    for path in paths:
        if path in names:
            prefix = (names[path],) if len(roots) + bool(loose) > 1 else ()
            here = _below(path, prefix, output, found)
        else:
            here = iter([(path, loose[path])] if path in loose else [])
        for file, folder in here:
            place = os.path.realpath(file.parent) + os.sep + file.name
            if place not in seen:  # named twice, or reached on two ways
                seen.add(place)
                found.items += _images_of(file, folder, together, found.problems)
    _take_once(together, found)
    found.items = _told_apart(found.items)
    found.problems = list(dict.fromkeys(found.problems))
    if not found.items and not found.problems:
        results = f" but {found.results} results of earlier runs" if found.results else ""
        raise ImageError(
            f"There is no image{results} in {', '.join(map(str, inputs))} (TIFF, OME-Zarr, NIfTI, "
            "PNG, JPEG). Check the path."
        )
    return found


def _take_once(together: dict[Path, frozenset[str]], found: FoundItems) -> None:
    """Leave out the files of an OME-TIFF that would give the images of another one again."""
    parts: set[str] = set()
    for path in sorted(together):
        if os.path.realpath(path) not in parts:
            parts |= together[path]
    if parts:
        kept = [item for item in found.items if os.path.realpath(item.path) not in parts]
        paths = {item.path for item in found.items}
        found.parts = len(paths.difference(item.path for item in kept))
        found.items = kept


def _told_apart(items: Sequence[Item]) -> list[Item]:
    """Give items of one name a number: a folder and a loose file may have the same place."""
    given = {item.name for item in items}
    names: set[str] = set()
    apart = []
    for item in items:
        unique, number = item, 2
        while unique.name in names or (unique is not item and unique.name in given):
            unique, number = replace(item, stem=f"{item.stem}_{number}"), number + 1
        names.add(unique.name)
        apart.append(unique)
    assert len(names) == len(items)
    return apart


def _mirrored(files: Sequence[Path]) -> dict[Path, tuple[str, ...]]:
    """Return for files that were named where they lie below the folder they share."""
    folders = {path: os.path.normpath(path.parent.absolute()) for path in files}
    try:
        shared = os.path.commonpath(folders.values()) if files else ""
    except ValueError:  # different drives of Windows
        return dict.fromkeys(files, ())
    return {path: Path(os.path.relpath(f, shared)).parts for path, f in folders.items()}


def _root_names(roots: Sequence[Path]) -> dict[Path, str]:
    names: dict[Path, str] = {}
    for root in roots:
        name = Path(os.path.realpath(root)).name or "root"
        options = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
        names[root] = next(n for n in options if n not in names.values())
    return names


def _below(
    root: Path, prefix: tuple[str, ...], output: Path, found: FoundItems
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield what may be images below a folder, each with its mirrored folder."""
    own = os.path.realpath(output)
    visited: set[str] = set()
    waiting = [(root, prefix)]
    while waiting:
        folder, place = waiting.pop()
        real = os.path.realpath(folder)
        # A loop of links ends here; so does the output's tree, unless it is the input itself.
        if real in visited or (real == own and folder != root):
            continue
        visited.add(real)
        everything = list_folder(folder, found.problems)
        kept = without_results(everything)
        results = set(everything).difference(kept)
        found.results += [_kind(path, found.problems) for path in results].count("image")
        below = []
        for path in itertools.filterfalse(is_passed_over, kept):
            kind = _kind(path, found.problems)
            if kind == "image":
                yield path, place
            elif kind == "folder":
                below.append((path, (*place, path.name)))
        waiting += reversed(below)


def _without_results(files: Sequence[Path], found: FoundItems) -> list[Path]:
    """Leave out the results of earlier runs among files that were named, and count them."""
    ours = {path for path in files if path.suffix == RECORD and is_record(path)}
    for folder in {path.parent for path in files}:
        with suppress(OSError):  # it can not be listed: there are no records to go by
            results = set(folder.iterdir())
            results.difference_update(without_results(results))
            ours |= results
    found.results += [_kind(path, found.problems) for path in ours.intersection(files)].count(
        "image"
    )
    return [path for path in files if path not in ours]


def _kind(path: Path, problems: Problems) -> str:
    """Return "image", "folder", "other", or "" for what can not be looked at: a problem."""
    try:
        if path.is_dir():
            return "image" if is_zarr(path) else "folder"
        # A link to an image that is gone is reported by reading it, not passed over.
        dangling = path.is_symlink() and not path.exists() and format_of(path) is not None
        return "image" if dangling or is_image(path) else "other"
    except OSError as error:
        problems.append(unreadable(path, error))
        return ""


def _images_of(
    path: Path, folder: tuple[str, ...], together: dict[Path, frozenset[str]], problems: Problems
) -> list[Item]:
    """Return an item for each image in a file or store.

    ``together`` gets the other files that an image is spread over.
    """
    try:
        return _opened(path, folder, together)
    except OSError as error:
        problems.append(unreadable(path, error))
        return []


def _opened(
    path: Path, folder: tuple[str, ...], together: dict[Path, frozenset[str]]
) -> list[Item]:
    stem, suffix = split_suffix(path)
    if is_zarr(path):
        inside = images_inside(path)
        if inside == [""]:
            return [Item(path, folder, stem, suffix or ".ome.zarr")]
        return [
            Item(path / name, (*folder, stem, *name.split("/")[:-1]), name.split("/")[-1], ".zarr")
            for name in inside
        ]
    series, others = images_in_tiff(path) if format_of(path) == "tiff" else ([0], frozenset())
    if others:
        together[path] = others
    if series == [0]:
        return [Item(path, folder, stem, suffix)]
    return [Item(path, folder, f"{stem}_series{n}", suffix, n) for n in series]
