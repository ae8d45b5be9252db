"""K1 to K6: what holds of every fault, whatever failed and wherever it is told.

| | |
|---|---|
| K1 | the message says what failed, to what, and what to do; nothing of the program's insides |
| K2 | nothing that was there is lost or changed |
| K3 | everything is at rest: no thread, no busy bar, the button can be pressed |
| K4 | what the failed attempt held in memory is let go |
| K5 | no file under its final name but whole ones, no record but of what is done, no halves |
| K6 | the exit code: 0 done, 1 could not start, 2 some failed, 130 and 143 interrupted |
"""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from support.hashes import hashes as files_of  # marks for K2

INSIDES = ("Traceback", "None", ".partial", " object at 0x", "<class '", "NoneType")


def assert_fault_contract(
    message: str,
    *patterns: str,
    before: Mapping[object, object] | None = None,
    now: Mapping[object, object] | None = None,
    at_rest: Callable[[], None] | None = None,
    gone: Sequence[weakref.ref] = (),
    folder: Path | None = None,
    results: Collection[str] = (),
    code: tuple[int, int] | None = None,
) -> None:
    """Check what a fault left behind; what a test does not give is not looked at.

    Parameters
    ----------
    message, *patterns : str
        K1: what the user was told, and regular expressions that it has to hold.
    before, now : mapping, optional
        K2: marks of what was there, by any key. What the user removed may lack.
    at_rest : callable, optional
        K3: raises if something is still going on.
    gone : sequence of weak references
        K4.
    folder, results : Path, names
        K5: where results go, and the files there that are meant to be: no others.
    code : (int, int), optional
        K6: the exit code, and what it has to be.
    """
    for pattern in patterns:
        assert re.search(pattern, message), message
    for insides in INSIDES:
        assert insides not in message, message
    if before is not None and now is not None:
        changed = [key for key, mark in before.items() if key in now and now[key] != mark]
        assert not changed, changed
    if at_rest is not None:
        at_rest()
    if gone:
        gc.collect()
        assert [reference for reference in gone if reference() is not None] == []
    if folder is not None:
        assert set(files_of(folder)) == set(results)
        assert not [path for path in folder.rglob("*") if ".partial" in path.name]
    if code is not None:
        assert code[0] == code[1], message
