"""Clear away what a killed run left behind."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from unet_studio.images.atomic import PARTIAL, PREVIOUS, host_tag, restore

_NAME = re.compile(
    rf"(?P<kind>{re.escape(PARTIAL)}|^{re.escape(PREVIOUS)})"
    r"(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{32}$"
)


def remove_leftovers(folder: Path) -> int:
    """Remove unfinished files and stores of processes that are gone; return how many.

    What a running process or another machine writes stays. An old result that
    was moved aside but never replaced is put back.

    Parameters
    ----------
    folder : Path
        Looked at itself, not what is below it.
    """
    removed = 0
    for path in sorted(folder.iterdir()):
        name = _NAME.search(path.name)
        if name is None or name["host"] != host_tag() or _is_running(int(name["pid"])):
            continue
        with suppress(OSError):  # somebody else's, or gone meanwhile
            _remove(path, name["kind"])
            removed += 1
    return removed


def _remove(path: Path, kind: str) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    elif kind == PARTIAL:
        shutil.rmtree(path)
    else:
        for old in path.iterdir():
            restore(old, path.with_name(old.name))
        if path.exists():
            path.rmdir()


def _is_running(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))
