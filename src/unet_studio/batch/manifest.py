"""The manifest of a batch: one line of JSON for each thing that happened, only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unet_studio.images.atomic import cannot_write
from unet_studio.plain_json import parse_json

MANIFEST = "manifest.jsonl"


def append_line(folder: Path, event: str, **values: Any) -> None:
    """Add a line to a folder's manifest. A line that a killed run left torn stays alone.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    path = folder / MANIFEST
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **values}).encode() + b"\n"
    try:
        torn = _is_torn(path)
        # One write of a file that is only appended to: lines of two processes do not mix.
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, b"\n" + line if torn else line)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise cannot_write(path, error) from error


def read_manifest(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a folder's manifest; torn ones are left out."""
    path = folder / MANIFEST
    if not path.is_file():
        return
    with path.open("rb") as stream:
        for line in stream:
            try:
                content = parse_json(line)
            except ValueError:
                continue
            if isinstance(content, dict):
                yield content


def _is_torn(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) != b"\n"
    except OSError:  # not there yet, or empty
        return False
