"""Packages of several files, a zip or a folder, read without trusting what they say.

Nothing is unpacked: members are read in place, by names that stay inside. A zip with one
name that would lead elsewhere is refused as a whole, since nobody makes such a name by
chance. Sizes are counted while reading; what a header says of them is only a first hint.
"""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Protocol

from unet_studio.errors import ModelError, cannot_read
from unet_studio.images.atomic import atomic_file
from unet_studio.images.limits import readable_size

_PIECE = 1 << 20
_HARMLESS = 64 << 20
# bzip2 and LZMA can blow one small block up to gigabytes before it can be counted.
# All that zipfile raises for files that are damaged, made by others, or locked by a password.
UNREADABLE_ZIP = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
    NotImplementedError,
)  # fmt: skip
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_ENTRY_BYTES = 46 + 512  # of the list of contents: an entry with a long name
_DEVICES = {"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))}


@dataclass(frozen=True)
class Caps:
    """What a package may hold.

    Attributes
    ----------
    total : int
        Bytes, unpacked.
    entries : int
    ratio : float
        Unpacked to packed bytes, for members and packages beyond 64 MiB.
    """

    total: int = 4 << 30
    entries: int = 10_000
    ratio: float = 200.0


class Package(Protocol):
    """Files by name, wherever they are. Use it in a ``with`` block."""

    path: Path

    def names(self) -> list[str]:
        """Return the names of all files, with "/" between folders, sorted."""
        ...

    def size(self, name: str) -> int:
        """Return the size that a file is said to have, in bytes."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Return the content of a file of at most ``limit`` bytes."""
        ...

    def copy(self, name: str, target: Path, limit: int) -> None:
        """Write the content of a file of at most ``limit`` bytes, atomically."""
        ...

    def __enter__(self) -> Package: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_package(
    path: Path, caps: Caps | None = None, *, only: Iterable[str] | None = None
) -> Package:
    """Open a zip file or a folder.

    Every method raises :class:`~unet_studio.errors.ModelError` for a name that is not
    inside, and for content that is damaged or larger than allowed.

    Parameters
    ----------
    path : Path
    caps : Caps, optional
    only : iterable of str, optional
        Names of the files of a folder that belong to the package. Others are not even
        looked at; those that are not there are left out. By default all of them do.

    Raises
    ------
    ModelError
        If it is neither, damaged, or unsafe.
    """
    caps = caps or Caps()
    if path.is_dir():
        return _Folder(path, caps, only)
    if not path.is_file():
        raise ModelError(f"There is nothing at {path}. Check the path.")
    return _Zip(path, caps)


def is_package(path: Path) -> bool:
    """Whether a path is a folder or looks like a zip; nothing of it is trusted yet."""
    if path.is_dir():
        return True
    try:
        return path.is_file() and zipfile.is_zipfile(path)  # a pipe would be waited for
    except OSError:
        return False


def safe_name(name: str) -> str:
    """Return a member's name in its plain form.

    Parameters
    ----------
    name : str
        As written in a zip, or inside a description such as ``rdf.yaml``.

    Returns
    -------
    str
        Relative, with "/", without "." parts.

    Raises
    ------
    ModelError
        If it is absolute, has a drive or server, a backslash, "..", a scheme, control
        characters, or is a device of Windows.
    """
    parts = PurePosixPath(name).parts
    reserved = any(p.partition(".")[0].strip().lower() in _DEVICES for p in parts)
    if (
        not parts
        or name.startswith("/")
        or "\\" in name
        or ":" in name
        or ".." in parts
        or not name.isprintable()
        or reserved
    ):
        shown = "".join(c if c.isprintable() else "�" for c in name)[:120]
        raise ModelError(
            f"The package names a file {shown!r}, which is not a plain name inside of it. It was "
            "made wrongly or to do harm; nothing of it was used. Get it from another place."
        )
    return "/".join(parts)


def _collision_key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _check_collisions(path: Path, names: list[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_collision_key(name), name)
        if other is not name:
            raise ModelError(
                f"{path} holds two files that many computers can not tell apart: {other!r} and "
                f"{name!r}. It was made wrongly; get it from another place."
            )


def _too_much(path: Path, what: str) -> ModelError:
    return ModelError(
        f"{path} holds {what}, more than a model needs. It is damaged or made to fill the disk; "
        "nothing of it was used. Get it from another place."
    )


class _Members:
    """What zip and folder have in common: names and counted reading."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sizes: dict[str, int] = {}

    def names(self) -> list[str]:
        return sorted(self._sizes)

    def size(self, name: str) -> int:
        return self._sizes[self._inside(name)]

    def read(self, name: str, limit: int) -> bytes:
        return b"".join(self._pieces(self._inside(name), limit))

    def copy(self, name: str, target: Path, limit: int) -> None:
        inside = self._inside(name)
        with atomic_file(target) as stream:
            for piece in self._pieces(inside, limit):
                stream.write(piece)

    def _inside(self, name: str) -> str:
        plain = safe_name(name)
        if plain not in self._sizes:
            raise ModelError(
                f"{self.path} has no file {plain!r}. It is incomplete; get the whole package."
            )
        return plain

    def _pieces(self, name: str, limit: int) -> Iterator[bytes]:
        if self._sizes[name] > limit:
            raise self._beyond(name, self._sizes[name], limit)
        try:
            with self._open(name) as stream:
                done = 0
                while piece := stream.read(min(_PIECE, limit - done + 1)):
                    done += len(piece)
                    if done > limit:
                        raise self._beyond(name, done, limit)
                    yield piece
        except UNREADABLE_ZIP as error:
            raise ModelError(
                f"{name!r} in {self.path} can not be read: {error}. Get the package again."
            ) from None

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        raise NotImplementedError
        yield

    def _beyond(self, name: str, size: int, limit: int) -> ModelError:
        return ModelError(
            f"{name!r} in {self.path} has {readable_size(size)} or more, where at most "
            f"{readable_size(limit)} make sense. It is damaged or made to fill the memory. "
            "Get it from another place."
        )

    def __enter__(self) -> Package:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""


class _Zip(_Members):
    def __init__(self, path: Path, caps: Caps) -> None:
        super().__init__(path)
        try:
            _check_directory(path, caps)
            self._zip = zipfile.ZipFile(path)
        except UNREADABLE_ZIP as error:
            raise ModelError(
                f"{path} is no zip file that can be read: {error}. Download or copy it again."
            ) from None
        try:
            self._infos = self._checked(caps)
        except BaseException:
            self._zip.close()
            raise
        self._sizes = {name: info.file_size for name, info in self._infos.items()}

    def _checked(self, caps: Caps) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        if len(infos) > caps.entries:
            raise _too_much(self.path, f"{len(infos):,} entries")
        for info in infos:
            # The name as it is stored: zipfile cuts it at a zero byte.
            safe_name(info.orig_filename.rstrip("/"))
            self._check_kind(info)
        # Only now: zipfile takes the last letter of a name, and there are empty ones.
        files = [info for info in infos if not info.is_dir()]
        total = sum(info.file_size for info in files)
        if total > caps.total:
            raise _too_much(self.path, readable_size(total))
        packed = max(1, min(sum(i.compress_size for i in files), self.path.stat().st_size))
        if total > _HARMLESS and total > caps.ratio * packed:
            raise _too_much(self.path, f"{readable_size(total)} in {readable_size(packed)}")
        names = [safe_name(info.orig_filename) for info in files]
        _check_collisions(self.path, names)
        return dict(zip(names, files, strict=True))

    def _check_kind(self, info: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelError(
                f"{info.filename!r} in {self.path} is a link or a device, not a file. Nothing of "
                "the package was used; get it from another place."
            )
        if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
            raise ModelError(
                f"{info.filename!r} in {self.path} is encrypted or packed in an unusual way. "
                "Unpack it with another program, and import the folder."
            )

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        with self._zip.open(self._infos[name]) as stream:
            yield stream

    def close(self) -> None:
        self._zip.close()


class _Folder(_Members):
    def __init__(self, path: Path, caps: Caps, only: Iterable[str] | None) -> None:
        super().__init__(path)
        self._root = path.resolve()
        try:
            for file in self._walk() if only is None else map(self._named, only):
                self._add(file, caps)
        except OSError as error:
            raise cannot_read(path, error) from None
        if sum(self._sizes.values()) > caps.total:
            raise _too_much(path, readable_size(sum(self._sizes.values())))

    def _walk(self) -> Iterator[Path]:
        for parent, folders, files in os.walk(self._root):
            folders.sort()
            yield from (Path(parent) / file for file in files)

    def _named(self, name: str) -> Path:
        return self._root / safe_name(name)

    def _add(self, file: Path, caps: Caps) -> None:
        try:
            if not file.is_file() or not file.resolve().is_relative_to(self._root):
                return  # pipes, devices, and links that lead out: not of this package
        except (OSError, RuntimeError):
            return
        if len(self._sizes) >= caps.entries:
            raise _too_much(self.path, f"more than {caps.entries:,} files")
        self._sizes[file.relative_to(self._root).as_posix()] = file.stat().st_size

    @contextmanager
    def _open(self, name: str) -> Iterator[IO[bytes]]:
        with (self._root / name).open("rb") as stream:
            yield stream


# -- the end of a zip ----------------------------------------------------------

_END = struct.Struct("<4s4H2LH")
_LOCATOR = 20
_END_64 = struct.Struct("<4sQ2H2L4Q")


def _check_directory(path: Path, caps: Caps) -> None:
    """Refuse a huge list of contents before it is read: a million entries take gigabytes.

    The records are those of PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.14 and 4.3.16.
    """
    size = path.stat().st_size
    start = max(0, size - _END.size - _LOCATOR - _END_64.size - 0xFFFF)
    with path.open("rb") as file:
        file.seek(start)
        tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + _END.size > len(tail):
        return  # zipfile will say what is wrong
    entries, listed = _END.unpack_from(tail, at)[4:6]
    at_64 = at - _LOCATOR - _END_64.size
    if at_64 >= 0 and tail[at_64 : at_64 + 4] == b"PK\x06\x06":
        entries_64, listed_64 = _END_64.unpack_from(tail, at_64)[7:9]
        entries, listed = max(entries, entries_64), max(listed, listed_64)
    if entries == 0xFFFF and listed < 0xFFFF:
        return
    if listed > caps.entries * _ENTRY_BYTES:
        raise _too_much(path, f"a list of contents of {readable_size(listed)}")
