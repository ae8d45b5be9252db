"""Files and folders that appear whole or not at all.

Everything is written under a temporary name in the folder of the target,
flushed to the disk, and renamed. A crash leaves the old file, or a leftover
with ``.partial-`` in its name, never half a result under the final name. The
name says which process of which machine wrote it, so that a later run can tell
the remains of a dead one (:mod:`unet_studio.images.leftovers`).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from unet_studio.errors import OutputError

PARTIAL = ".partial-"
# A folder that holds what is being replaced, under its own name.
PREVIOUS = ".previous-"
_LONGEST_NAME = 255  # bytes, on every common file system
_FLUSHED_AT_ONCE = 8


@contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """Open a binary file for writing and reading that replaces ``target`` at the end.

    A symbolic link at ``target`` is replaced; what it points to stays untouched.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it. Nothing is left behind.
    """
    partial = _partial_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir() and not target.is_symlink():
            raise OutputError(
                f"{target} is a folder; a file can not take its place. Move it away."
            )
        # "x": an existing file or link of this name is never opened.
        with partial.open("x+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        with suppress(OSError):  # most often it has become the target
            partial.unlink()


@contextmanager
def atomic_folder(target: Path, *, replaceable: bool) -> Iterator[Path]:
    """Yield a temporary folder that takes the place of ``target`` at the end.

    Parameters
    ----------
    target : Path
    replaceable : bool
        Whether a folder that is already there may be replaced.

    Raises
    ------
    OutputError
        If something is there that must not be replaced, or the disk does not take it.
    """
    partial = _partial_name(target)
    holder = target.with_name(_tag(PREVIOUS))
    old = holder / target.name
    in_the_way = target.exists() and not target.is_symlink()
    if in_the_way and not (replaceable and target.is_dir()):
        raise OutputError(
            f"{target} exists and was not written by this program, so it stays. "
            "Move it away or choose another output folder."
        )
    try:
        partial.mkdir(parents=True)
        yield partial
        _sync_tree(partial)
        if target.is_symlink():
            target.unlink()
        elif in_the_way:
            holder.mkdir()
            target.rename(old)
        partial.rename(target)
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        restore(old, target)  # first: whatever ends the removal, nothing is lost
        _remove_folder(partial)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder on the disk of ``target`` that is removed at the end.

    Raises
    ------
    OutputError
        If the disk does not take it.
    """
    folder = _partial_name(target)
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise cannot_write(target, error) from error
    finally:
        _remove_folder(folder)


def _remove_folder(folder: Path) -> None:
    """Remove a folder in which others may still be writing.

    It gets another name first: who opens a file by the old name finds none, and nothing is
    added to what is being removed.
    """
    gone = folder.with_name(_tag(PARTIAL))
    with suppress(OSError):  # it may not be there; Windows keeps it while a file is open
        folder.rename(gone)
    for path in (gone, folder):
        shutil.rmtree(path, ignore_errors=True)


def cannot_write(target: Path, error: OSError) -> OutputError:
    """Return the error that tells the user why a file could not be written."""
    return OutputError(
        f"{target} could not be written: {error.strerror or error}. Free some space, check the "
        "permissions of the folder, or choose another output folder."
    )


def restore(old: Path, target: Path) -> None:
    """Put a folder back if nothing took its place; remove its holder then."""
    if old.exists() and not os.path.lexists(target):
        with suppress(OSError):
            old.rename(target)
    if os.path.lexists(target):
        shutil.rmtree(old.parent, ignore_errors=True)


def host_tag() -> str:
    """Return eight letters that stand for this machine."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _tag(kind: str) -> str:
    return f"{kind}{host_tag()}-{os.getpid()}-{uuid.uuid4().hex}"


def _partial_name(target: Path) -> Path:
    ending = _tag(PARTIAL)
    kept = os.fsencode(target.name)[: _LONGEST_NAME - len(ending)].decode(errors="ignore")
    return target.with_name(kept + ending)


def _sync_tree(folder: Path) -> None:
    folders = []
    # Flushed one by one, each file waits for the disk's journal; eight share a wait.
    with ThreadPoolExecutor(_FLUSHED_AT_ONCE, "unet-studio-flush") as pool:
        for parent, _, names in os.walk(folder):
            folders.append(Path(parent))
            deque(pool.map(_sync_file, [folders[-1] / name for name in names]), maxlen=0)
        deque(pool.map(sync_folder, folders), maxlen=0)


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to the disk, so that a rename survives a power cut."""
    if os.name == "nt":  # Windows has no handle of a folder to flush
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
