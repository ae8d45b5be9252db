"""What is known of a file of the store beside its card: where from, since when, which hash.

One small JSON file beside each model file. It speaks of this computer (when a file came
here, and what it was when it was first used), so it is not written into the model file,
whose bytes stay those that were published. Everything works without it.
"""

from __future__ import annotations

import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from unet_studio.errors import ModelError, OutputError
from unet_studio.images.atomic import atomic_file

SUFFIX = ".json"
_LIMIT = 1 << 20


class Record(BaseModel):
    """The record of one file.

    Attributes
    ----------
    sha256 : str
        Of the file, when it came or was first used.
    size : int
        Bytes.
    added : str
        Day and time, ISO 8601 with the offset from UTC.
    source : str
        Address or path that it came from; empty for a file found in the folder.
    kind : str
        What it was before it was imported.
    published : bool
        The hash is that of a fetched file, so the file has to stay as it is.
    address_sha256 : str
        Of the whole address that it was fetched from: ``source`` leaves out what may be
        secret, by which two files can differ.
    downloaded_sha256 : str
        Of the file as it was fetched, before it was converted.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sha256: str
    size: int
    added: str
    source: str = ""
    kind: str = ""
    published: bool = False
    address_sha256: str = ""
    downloaded_sha256: str = ""


def record_path(model: Path) -> Path:
    """Return where the record of a model file is: ``<file>.json``."""
    return model.with_name(model.name + SUFFIX)


def read_record(model: Path) -> Record | None:
    """Return the record of a model file; None if there is none that can be read."""
    path = record_path(model)
    try:
        if path.stat().st_size > _LIMIT:
            return None
        return Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def write_record(model: Path, record: Record) -> bool:
    """Write a record; return False where the folder takes none (a shared, read-only store)."""
    try:
        with atomic_file(record_path(model)) as stream:
            stream.write(record.model_dump_json(indent=2).encode())
    except OutputError:
        return False
    return True


def now() -> str:
    """Return the day and time for a record."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def check_use(model: Path, sha256: str) -> str:
    """Compare a file of the store with what it was when it was first used.

    Parameters
    ----------
    model : Path
    sha256 : str
        Of the file, now.

    Returns
    -------
    str
        What the user should know; empty if nothing has changed. A change is told once,
        and the new hash is recorded.

    Raises
    ------
    ModelError
        If a fetched file is no longer the one that was published.
    """
    known = read_record(model)
    if known is not None and known.sha256 == sha256:
        return ""
    fresh = Record(sha256=sha256, size=model.stat().st_size, added=now())
    if known is None:
        write_record(model, fresh)
        return ""
    if known.published:
        raise ModelError(
            f"{model} has changed since it was fetched (SHA-256 {sha256}, published "
            f"{known.sha256}). It was replaced or damaged. Fetch it again, or, if the change is "
            "yours, import the file under another name."
        )
    write_record(model, fresh.model_copy(update={"source": known.source, "kind": known.kind}))
    return (
        f"The model file {model.name} has changed since {known.added[:10]} (its SHA-256 was "
        f"{known.sha256[:12]}…, now {sha256[:12]}…). If it was not you, get it again."
    )
