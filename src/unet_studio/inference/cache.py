"""What is remembered between runs, in the user's cache folder."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import platformdirs

# What a file did not take, by the file: kept for as long as the process.
_unwritten: dict[Path, dict[str, Any]] = {}
_MOST_UNWRITTEN = 64


def cache_folder() -> Path:
    """Return the folder for what can be lost at any time; it need not exist."""
    home = os.environ.get("UNET_STUDIO_HOME")
    return Path(home) if home else platformdirs.user_cache_path("unet-studio")


class JsonCache:
    """A small dictionary in a JSON file.

    What can not be written there is remembered by this process alone.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        """Return what is kept under a key; None if there is nothing."""
        return {**_unwritten.get(self._path, {}), **self._read()}.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep a value, ready for JSON, under a key."""
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({**self._read(), key: value}, indent=1))
            partial.replace(self._path)
        except OSError:
            held = _unwritten.setdefault(self._path, {})
            held[key] = value
            while len(held) > _MOST_UNWRITTEN:
                del held[next(iter(held))]
            with suppress(OSError):
                partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
