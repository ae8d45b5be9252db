"""The inputs of a batch as they are written: files, folders, patterns and lists of these."""

from __future__ import annotations

import errno
import fnmatch
import glob
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_studio.errors import ImageError
from unet_studio.images.atomic import PARTIAL, PREVIOUS
from unet_studio.images.formats import is_zarr
from unet_studio.user_paths import user_path

# Where it is, and what is wrong with it.
Problems = list[tuple[str, str]]


def expand(inputs: Sequence[Path | str], output: Path, problems: Problems) -> dict[Path, bool]:
    """Return what the inputs of a batch stand for, in their order.

    Parameters
    ----------
    inputs : sequence of Path or str
        As for :func:`unet_studio.batch.items.find_items`.
    output : Path
        Its tree fits no pattern, unless the pattern begins in it.
    problems : list of (str, str)
        Gets what can not be read.

    Returns
    -------
    dict of Path to bool
        Whole paths, and whether each was named: what fits a pattern may be anything.

    Raises
    ------
    ImageError
        If an input does not exist, or nothing fits a pattern.
    """
    paths: dict[Path, bool] = {}
    for text in inputs:
        for path, named in _expanded(str(text), output, problems):
            paths[path.absolute()] = named or paths.get(path.absolute(), False)
    return paths


def list_folder(folder: Path, problems: Problems) -> list[Path]:
    """Return what is in a folder, sorted; one that can not be read becomes a problem."""
    try:
        if not os.access(folder, os.X_OK):  # names can be listed, but nothing can be opened
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return sorted(folder.iterdir())
    except OSError as error:
        problems.append(unreadable(folder, error))
        return []


def unreadable(path: Path, error: OSError) -> tuple[str, str]:
    """Return the problem that a path can not be read."""
    return str(path), f"{path} can not be read: {error.strerror or error}."


def is_passed_over(path: Path) -> bool:
    """Whether it is hidden, or left by a run that was interrupted."""
    return path.name.startswith(".") or PARTIAL in path.name or PREVIOUS in path.name


def _expanded(text: str, output: Path, problems: Problems) -> Iterator[tuple[Path, bool]]:
    path = user_path(text)
    if os.path.lexists(path):
        yield path, True
    elif text.startswith("@"):
        yield from _listed(user_path(text[1:]), output, problems)
    elif glob.has_magic(text):
        fitting = _fitting(path, output, problems)
        if not fitting:
            raise ImageError(f"Nothing is called like {text}. Check the pattern.")
        yield from ((one, False) for one in fitting)
    else:
        raise ImageError(f"There is no file or folder {path}. Check the name.")


def _listed(path: Path, output: Path, problems: Problems) -> Iterator[tuple[Path, bool]]:
    """Yield what the lines of a list stand for; those that can not be used become problems."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(
            f"The list {path} can not be read: {reason}. Check its name and permissions, and that "
            "it is text in UTF-8."
        ) from None
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        try:
            yield from _of_line(line, path.parent, output, problems)
        except ImageError as error:
            problems.append((str(path), f"{path}, line {number}: {error}"))


def _of_line(
    line: str, folder: Path, output: Path, problems: Problems
) -> Iterator[tuple[Path, bool]]:
    path = folder / user_path(line)
    if line.startswith("@") and not os.path.lexists(path):
        raise ImageError(f"A list can not name another one ({line}). Give both on their own.")
    if glob.has_magic(line) and not os.path.lexists(path):
        # In the name of the list's own folder [1] is no pattern.
        path = Path(glob.escape(str(folder))) / user_path(line)
    yield from _expanded(str(path), output, problems)


def _fitting(pattern: Path, output: Path, problems: Problems) -> list[Path]:
    parts = pattern.parts
    plain = list(itertools.takewhile(lambda name: name is not None, map(_plain, parts)))
    fixed, root = len(plain), Path(*filter(None, plain))
    own = os.path.realpath(output)
    search = _Search(own if own != os.path.realpath(root) else "", problems)
    return sorted(set(search.fitting(root, parts[fixed:])))


def _plain(part: str) -> str | None:
    """Return the one name that a part of a pattern stands for; None if it stands for many."""
    name = re.sub(r"\[([?*[])\]", r"\1", part)
    return name if glob.escape(name) == part else None


@dataclass(frozen=True)
class _Search:
    """What fits a pattern. Not that of the standard library: it follows links for ever."""

    own: str
    problems: Problems

    def fitting(self, path: Path, parts: Sequence[str]) -> Iterator[Path]:
        """Yield what fits ``parts`` below a path: itself, if there are none."""
        if not parts:
            if not self._is_output(path):
                yield path
            return
        first, rest = parts[0], parts[1:]
        if first == "**":
            # With nothing after it, it is all that is in the folder.
            for folder in self._tree(path) if rest else [path]:
                yield from self.fitting(folder, rest)
        elif (name := _plain(first)) is not None:
            if os.path.lexists(path / name):
                yield from self.fitting(path / name, rest)
        elif os.path.isdir(path) and not self._is_output(path):  # noqa: PTH112 (never raises)
            for child in list_folder(path, self.problems):
                hidden = child.name.startswith(".") and not first.startswith(".")
                if fnmatch.fnmatch(child.name, first) and not hidden:
                    yield from self.fitting(child, rest)

    def _tree(self, top: Path) -> Iterator[Path]:
        """Yield a folder and all below it, each once, whatever links lead to it."""
        visited: set[str] = set()
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            real = os.path.realpath(folder)
            if real in visited or self._is_output(folder):
                continue
            visited.add(real)
            yield folder
            below = list_folder(folder, self.problems)
            waiting += [p for p in reversed(below) if not is_passed_over(p) and self._opens(p)]

    def _opens(self, path: Path) -> bool:
        try:
            return path.is_dir() and not is_zarr(path)
        except OSError as error:
            self.problems.append(unreadable(path, error))
            return False

    def _is_output(self, path: Path) -> bool:
        return bool(self.own) and os.path.realpath(path) == self.own
