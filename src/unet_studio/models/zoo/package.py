"""The files of a package, a folder or a zip, and nothing but these."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from unet_studio.errors import ModelError
from unet_studio.models.archives import Package, open_package, safe_name
from unet_studio.models.zoo.advice import MENDED
from unet_studio.models.zoo.yaml import read_yaml

DESCRIPTIONS = ("bioimageio.yaml", "rdf.yaml", "model.yaml")
LARGEST_YAML = 2 * 2**20
LARGEST_FILE = 2 * 2**30
# Keys of a description under which files are named.
_FILE_KEYS = {"source"}
_FILE_LISTS = {
    "covers", "documentation", "test_inputs", "test_outputs", "sample_inputs", "sample_outputs",
    "files",
}  # fmt: skip
_DEEPEST = 40
_WEB = re.compile(r"https?://", re.IGNORECASE)


def open_files(path: Path) -> Package:
    """Open a package: a zip, a folder, or a description with the files that it names.

    Raises
    ------
    ModelError
        If there is none, or it is not to be trusted.
    """
    if not is_description(path):
        return open_package(path)
    # It may lie among a thousand files that have nothing to do with it.
    with open_package(path.parent, only=[path.name]) as alone:
        values = read_yaml(alone.read(path.name, LARGEST_YAML), str(path))
    named = [_plain(source) for source, _ in described_files(values)]
    return open_package(path.parent, only=[path.name, *named])


def is_description(path: Path) -> bool:
    """Whether a path is that of a description, not of a whole package."""
    return path.suffix in (".yaml", ".yml") and path.is_file()


def description_name(names: list[str]) -> str | None:
    """Return which file of a package describes it, or None."""
    for wanted in DESCRIPTIONS:
        # Some zips hold one folder with everything in it.
        for name in sorted(names, key=lambda n: n.count("/")):
            if name == wanted or (name.count("/") == 1 and name.endswith("/" + wanted)):
                return name
    ours = [n for n in names if "/" not in n and n.endswith(".bioimageio.yaml")]
    return ours[0] if ours else None


class Contents:
    """The files of a package as its description names them.

    Parameters
    ----------
    package : Package
    where : str
        What to call it in messages.
    name : str, optional
        Which file describes it; found by its usual names by default.

    Attributes
    ----------
    values : dict
        The description, as plain values.
    """

    def __init__(self, package: Package, where: str, name: str | None = None) -> None:
        self.where = where
        self._package = package
        name = name or description_name(package.names())
        if name is None:
            raise ModelError(
                f"{where} has no {' or '.join(DESCRIPTIONS[:2])}: it is no package of the "
                "BioImage Model Zoo. Give the zip or folder of one."
            )
        self._folder = name.rpartition("/")[0]
        self._names = set(package.names())
        self.values = read_yaml(package.read(name, LARGEST_YAML), f"{name} in {where}")
        self._check()

    def has(self, source: str) -> bool:
        """Whether a file that the description names is there."""
        return self._place(source) in self._names

    def read(self, source: str, sha256: str | None = None, limit: int = LARGEST_FILE) -> bytes:
        """Read a file that the description names.

        Raises
        ------
        ModelError
            If it is not there, too large, or not the file that was described.
        """
        place = self._place(source)
        if place not in self._names:
            raise ModelError(
                f"{source!r} is not in {self.where}, although it is described there. Get the "
                "package again."
            )
        content = self._package.read(place, limit)
        found = hashlib.sha256(content).hexdigest()
        if sha256 and found != sha256.lower():
            raise ModelError(
                f"{source!r} in {self.where} is not the file that its description is about: its "
                f"SHA-256 is {found[:16]}… instead of {sha256[:16].lower()}…. Get the package "
                "again."
            )
        return content

    def _place(self, source: str) -> str:
        source = _plain(source)
        return f"{self._folder}/{source}" if self._folder else source

    def _check(self) -> None:
        """Look at every file that the description names: where it is, and its hash."""
        for source, sha256 in described_files(self.values):
            check_source(source, self.where)
            if sha256 and self.has(source):
                self.read(source, sha256)


def check_source(source: str, where: str) -> None:
    """Refuse the name of a file that leads out of a package.

    Raises
    ------
    ModelError
    """
    if _WEB.match(source):
        if not PurePosixPath(source.partition("?")[0]).name:
            raise ModelError(f"{where} names the address {source!r}, which is no file. {MENDED}")
        return
    safe_name(source)


def described_files(values: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return every file that a description names, with its hash.

    Raises
    ------
    ModelError
        If it is nested too deeply.
    """
    # What stands under "config" belongs to other programs, and is no file of ours.
    return list(_files({key: value for key, value in values.items() if key != "config"}))


def _plain(source: str) -> str:
    """Return the name of a file in its package: of a web address, what it is saved as."""
    if _WEB.match(source):
        source = PurePosixPath(source.partition("?")[0]).name
    return safe_name(source)


def _files(values: Any, depth: int = 0) -> Iterator[tuple[str, str | None]]:
    """Yield every file that a description names, with its hash."""
    if depth > _DEEPEST:
        raise ModelError(f"The description is nested too deeply to be one. {MENDED}")
    if isinstance(values, list):
        for value in values:
            yield from _files(value, depth + 1)
    if not isinstance(values, dict):
        return
    for key, value in values.items():
        if key in _FILE_KEYS and isinstance(value, str):
            sha256 = values.get("sha256")
            yield value, sha256 if isinstance(sha256, str) else None
        elif key in _FILE_LISTS:
            named = value if isinstance(value, list) else [value]
            yield from ((v, None) for v in named if isinstance(v, str))
            yield from _files([v for v in named if not isinstance(v, str)], depth + 1)
        else:
            yield from _files(value, depth + 1)
