"""Journals of clicks, kept in the settings folder as the clicks are made."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_studio.models.store import home_folder

_KEPT = 20  # journals
SUFFIX = ".jsonl"


def journals_folder() -> Path:
    """Return the folder of the journals; it may not exist yet."""
    return home_folder() / "clicks"


class JournalKeeper:
    """Writes a session's journal to a file, line by line, as it grows.

    What was written is there even if the program is killed: each line is handed to the
    operating system before the next click. A folder that can not be written to is no
    reason not to click; :attr:`problem` then says what is wrong.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        self.path = folder / f"{stamp}-{os.getpid()}{SUFFIX}"
        self.problem = ""
        self._written = 0

    def write(self, entries: Sequence[dict[str, Any]]) -> None:
        """Append the entries that are new. The first line alone is not worth a file."""
        if len(entries) <= max(self._written, 1) or self.problem:
            return
        lines = "".join(json.dumps(entry) + "\n" for entry in entries[self._written :])
        try:
            if not self._written:
                self.path = _free(self.path)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _forget_old(self.path.parent)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            self.problem = (
                f"The journal can not be kept in {self.path}: {error}. Clicks go on; use Save "
                "journal before you stop, and make room in that folder for the next session."
            )
        self._written = len(entries)


def _free(path: Path) -> Path:
    """Return a name that is not taken: two sessions may begin in one second."""
    count, found = 1, path
    while found.exists():
        count += 1
        found = path.with_name(f"{path.stem}-{count}{SUFFIX}")
    return found


def _forget_old(folder: Path) -> None:
    kept = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime)
    for path in kept[: -(_KEPT - 1)]:
        path.unlink(missing_ok=True)
