"""What is remembered between runs, in the user's cache folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import platformdirs


def cache_folder() -> Path:
    """Return the folder for what can be lost at any time; it need not exist."""
    home = os.environ.get("UNET_STUDIO_HOME")
    return Path(home) if home else platformdirs.user_cache_path("unet-studio")


class Memory:
    """A small dictionary in a JSON file. One that can not be read or written only costs time.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        """Return what is kept under a key; None if there is nothing."""
        return self._read().get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep a value, ready for JSON, under a key."""
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({**self._read(), key: value}, indent=1))
            partial.replace(self._path)
        except OSError:
            partial.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
