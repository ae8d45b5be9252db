"""The unfinished part of a download: kept under a temporary name until it is whole.

The name is that of :mod:`unet_studio.images.atomic`, with the process that writes it;
a part that nobody writes any more has process number 0. A later download of the same
address takes such a part over by renaming it, which only one process can, and goes on
where it ended. Two processes at once write two parts, and each is renamed whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from unet_studio.errors import OutputError
from unet_studio.images.atomic import PARTIAL, cannot_write, host_tag, sync_folder

_NOBODY = 0
_NOTES = ".json"
_NOTES_LIMIT = 4096
_TAG = re.compile(rf"{re.escape(PARTIAL)}(?P<host>[0-9a-f]{{8}})-(?P<pid>\d+)-[0-9a-f]{{32}}$")


@dataclass
class Notes:
    """What has to be known to go on with a part.

    Attributes
    ----------
    source : str
        SHA-256 of the address: the address itself may hold a secret.
    validator : str
        The server's ETag or date of the content; empty if it gave none.
    """

    source: str
    validator: str = ""


class PartialFile:
    """A part that this process writes. Made by :func:`partial_file`."""

    def __init__(self, path: Path, stream: BinaryIO, notes: Notes) -> None:
        self.path = path
        self.notes = notes
        self._stream = stream
        self.size = stream.seek(0, os.SEEK_END)

    def append(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._stream.write(data)
        self.size += len(data)

    def restart(self) -> None:
        """Forget what is there."""
        self._stream.seek(0)
        self._stream.truncate()
        self.size = 0

    def note(self, validator: str) -> None:
        """Keep the server's mark of the content for a later process."""
        if validator != self.notes.validator:
            self.notes.validator = validator
            _notes_path(self.path).write_text(json.dumps(asdict(self.notes)), encoding="utf-8")

    def head(self, count: int) -> bytes:
        """Return the first bytes."""
        self._stream.flush()
        with self.path.open("rb") as file:
            return file.read(count)

    def sha256(self) -> str:
        """Return the hash of everything that is there."""
        self._stream.flush()
        return file_sha256(self.path)

    def finish(self, target: Path) -> None:
        """Flush to the disk and take the place of ``target``; a link there is replaced."""
        self._stream.flush()
        # The notes were made with the user's umask; the part itself is private until now.
        self.path.chmod(_notes_path(self.path).stat().st_mode & 0o777)
        os.fsync(self._stream.fileno())
        self._stream.close()
        self.path.replace(target)
        sync_folder(target.parent)


@contextmanager
def partial_file(target: Path, source: str) -> Iterator[PartialFile]:
    """Open the part of a download, an earlier one's if there is one.

    Parameters
    ----------
    target : Path
        What it shall become. Its folder is made if it is not there.
    source : str
        Where it comes from; a part of another address is not taken.

    Yields
    ------
    PartialFile
        At the end it is kept for later, unless it was finished or is empty.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    notes = Notes(hashlib.sha256(source.encode()).hexdigest())
    path = target.with_name(_name(target, os.getpid()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            raise OutputError(f"{target} is a folder; a file can not take its place. Move it.")
        adopted = _adopt(target, path, notes.source)
        if adopted is not None:
            notes = adopted
        # Made anew: what was adopted may be of another user's umask.
        _notes_path(path).write_text(json.dumps(asdict(notes)), encoding="utf-8")
        with _open_private(path) as stream:
            yield PartialFile(path, stream, notes)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        _put_down(target, path)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    OSError
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_private(path: Path) -> BinaryIO:
    """Open a file for this user alone, never through a link that somebody put there."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "r+b")


def _adopt(target: Path, path: Path, source: str) -> Notes | None:
    """Rename the largest part that nobody writes to ``path``; None if there is none."""
    for candidate in _parts(target):
        notes = _read_notes(candidate)
        if notes is None or notes.source != source or not _is_free(candidate):
            continue
        try:
            if candidate.is_symlink():
                continue
            candidate.rename(path)  # only one process succeeds
        except OSError:
            continue
        _remove(_notes_path(candidate))
        return notes
    return None


def _put_down(target: Path, path: Path) -> None:
    """Keep an unfinished part for a later download; remove an empty one."""
    with suppress(OSError):
        if path.stat().st_size:
            kept = target.with_name(_name(target, _NOBODY))
            _notes_path(path).replace(_notes_path(kept))
            path.rename(kept)
            return
        path.unlink()
    _remove(_notes_path(path))


def _parts(target: Path) -> list[Path]:
    start = _shortened(target.name)
    found = []
    with suppress(OSError):
        for path in target.parent.iterdir():
            match = _TAG.search(path.name)
            if match and path.name[: match.start()] == start:
                found.append(path)
    return sorted(found, key=_size, reverse=True)


def _is_free(path: Path) -> bool:
    match = _TAG.search(path.name)
    if match is None:
        return False
    pid = int(match["pid"])
    if pid == _NOBODY:
        return True
    import psutil

    return match["host"] == host_tag() and not psutil.pid_exists(pid)


def _read_notes(path: Path) -> Notes | None:
    notes = _notes_path(path)
    try:
        if notes.stat().st_size > _NOTES_LIMIT:
            return None
        content = json.loads(notes.read_text(encoding="utf-8"))
        source, validator = content["source"], content["validator"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if not isinstance(source, str) or not isinstance(validator, str):
        return None
    # It goes into a header of a request.
    return Notes(source, validator if validator.isprintable() and validator.isascii() else "")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _notes_path(path: Path) -> Path:
    return path.with_name(path.name + _NOTES)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _name(target: Path, pid: int) -> str:
    return f"{_shortened(target.name)}{PARTIAL}{host_tag()}-{pid}-{uuid.uuid4().hex}"


def _shortened(name: str) -> str:
    """Leave room for the ending: names have at most 255 bytes."""
    return name.encode()[:180].decode(errors="ignore")
