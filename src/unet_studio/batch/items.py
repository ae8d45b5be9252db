"""Which images a batch consists of, each with a place in the output's tree."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unet_studio.errors import ImageError
from unet_studio.images.atomic import PARTIAL, PREVIOUS
from unet_studio.images.formats import format_of, is_zarr, split_suffix
from unet_studio.images.readers import is_image
from unet_studio.images.records import without_results
from unet_studio.plain_json import parse_json
from unet_studio.user_paths import user_path

_LARGEST_ATTRIBUTES = 64 * 2**20


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
        """What messages, manifest and table call it: its place in the input's tree."""
        return "/".join((*self.folder, self.stem + self.suffix))


@dataclass
class Found:
    """What was found.

    Attributes
    ----------
    items : list of Item
        In a stable order, each image once.
    results : int
        Results of earlier runs that were left out.
    problems : list of (str, str)
        Folders that can not be read, and why.
    """

    items: list[Item] = field(default_factory=list)
    results: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def find_items(inputs: Sequence[Path | str], output: Path) -> Found:
    """Find the images among files, folders, globs and lists.

    Folders are descended into, links followed once. Their tree is mirrored, and that of files
    that are named, below the folder they share. Not taken: hidden files, results of
    earlier runs (a run record beside them says so), and the output's own tree below an
    input folder. Plates and collections of OME-Zarr give an item for each image in them,
    an OME-TIFF of several images one for each.

    Parameters
    ----------
    inputs : sequence of Path or str
        ``@list.txt`` names a file with one input per line, relative to its folder.
    output : Path

    Raises
    ------
    ImageError
        If an input does not exist, a glob fits nothing, or there is no image at all.
    """
    found = Found()
    paths = list(dict.fromkeys(p.absolute() for text in inputs for p in _expanded(str(text))))
    roots = [p for p in paths if p.is_dir() and not is_zarr(p)]
    names = _root_names(roots)
    loose = _mirrored([p for p in paths if p not in names])
    seen: set[str] = set()
    for path in paths:
        if path in names:
            prefix = (names[path],) if len(roots) + bool(loose) > 1 else ()
            files = _below(path, prefix, output, found)
        else:
            files = iter([(path, loose[path])])
        for file, folder in files:
            place = os.path.realpath(file.parent) + os.sep + file.name
            if place not in seen:  # named twice, or reached on two ways
                seen.add(place)
                found.items += _images_of(file, folder)
    if not found.items and not found.problems:
        results = f" but {found.results} results of earlier runs" if found.results else ""
        raise ImageError(
            f"There is no image{results} in {', '.join(map(str, inputs))} (TIFF, OME-Zarr, NIfTI, "
            "PNG, JPEG)."
        )
    return found


def _expanded(text: str) -> Iterator[Path]:
    path = user_path(text)
    if os.path.lexists(path):
        yield path
    elif text.startswith("@"):
        yield from _listed(user_path(text[1:]))
    elif glob.has_magic(text):
        # pathlib's would refuse absolute patterns.
        fitting = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
        if not fitting:
            raise ImageError(f"Nothing is called like {text}. Check the pattern.")
        yield from map(Path, fitting)
    else:
        raise ImageError(f"There is no file or folder {path}. Check the name.")


def _listed(path: Path) -> Iterator[Path]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ImageError(f"The list {path} can not be read: {error}.") from None
    for line in filter(None, map(str.strip, lines)):
        yield from _expanded(str(path.parent / user_path(line)))


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
    root: Path, prefix: tuple[str, ...], output: Path, found: Found
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
        try:
            everything = sorted(folder.iterdir())
        except OSError as error:
            found.problems.append((str(folder), f"{folder} can not be read: {error.strerror}."))
            continue
        kept = without_results(everything)
        found.results += sum(map(is_image, everything)) - sum(map(is_image, kept))
        below = []
        for path in kept:
            if path.name.startswith(".") or PARTIAL in path.name or PREVIOUS in path.name:
                continue
            if is_image(path) or _is_dangling(path):
                yield path, place
            elif path.is_dir():
                below.append((path, (*place, path.name)))
        waiting += reversed(below)


def _is_dangling(path: Path) -> bool:
    """Whether it is a link to an image that is gone; it is reported, not passed over."""
    return path.is_symlink() and not path.exists() and format_of(path) is not None


def _images_of(path: Path, folder: tuple[str, ...]) -> list[Item]:
    """Return an item for each image in a file or store."""
    stem, suffix = split_suffix(path)
    if is_zarr(path):
        inside = _images_inside(path)
        if inside == [""]:
            return [Item(path, folder, stem, suffix or ".ome.zarr")]
        return [
            Item(path / name, (*folder, stem, *name.split("/")[:-1]), name.split("/")[-1], ".zarr")
            for name in inside
        ]
    count = _images_in_tiff(path) if format_of(path) == "tiff" else 1
    if count == 1:
        return [Item(path, folder, stem, suffix)]
    return [Item(path, folder, f"{stem}_series{n}", suffix, n) for n in range(count)]


def _images_in_tiff(path: Path) -> int:
    """Return how many images an OME-TIFF holds. Other TIFFs count as one."""
    import tifffile

    try:
        if not path.is_file():
            return 1
        with tifffile.TiffFile(path) as file:
            return len(file.series) if file.is_ome else 1
    except Exception:  # damaged: reading it will say how
        return 1


def _images_inside(store: Path) -> list[str]:
    """Return the paths of the images in a Zarr store; [""] if it is one."""
    ome = _ome(store)
    if "plate" in ome and "multiscales" not in ome:
        wells = [w.get("path") for w in ome["plate"].get("wells", []) if isinstance(w, dict)]
        names = [f"{w}/{i}" for w in wells if isinstance(w, str) for i in _fields(store / w)]
        return names or [""]
    if "well" in ome and "multiscales" not in ome:
        return _fields(store) or [""]
    if "bioformats2raw.layout" in ome and "multiscales" not in ome:
        numbers = sorted(int(p.name) for p in store.iterdir() if p.name.isdigit())
        return [str(n) for n in numbers] or [""]
    return [""]


def _fields(well: Path) -> list[str]:
    described = _ome(well).get("well")
    images = described.get("images", []) if isinstance(described, dict) else []
    return [str(image["path"]) for image in images if isinstance(image, dict) and "path" in image]


def _ome(store: Path) -> dict[str, Any]:
    """Return the OME metadata of a Zarr group; empty if there are none."""
    for name in ("zarr.json", ".zattrs"):
        path = store / name
        try:
            if not path.is_file() or path.stat().st_size > _LARGEST_ATTRIBUTES:
                continue
            content = parse_json(path.read_bytes())
        except (OSError, ValueError):
            return {}
        content = content.get("attributes", {}) if name == "zarr.json" else content
        ome = content.get("ome", content) if isinstance(content, dict) else {}
        return ome if isinstance(ome, dict) else {}
    return {}
