"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["is_file", "user_path"]


def user_path(text: str | Path) -> Path:
    """Return a path with ``~`` and ``~name`` replaced by home folders.

    ``~cells.tif`` is the home folder of nobody; such a file may well exist, and so the path
    is left as it is.
    """
    path = Path(text)
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_file(path: str | Path) -> bool:
    """Whether there is such a file: no error for a name too long for any file system."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib raises then, before Python 3.14
