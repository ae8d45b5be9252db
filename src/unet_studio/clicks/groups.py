"""Tables of clicks: one row per click, gathered into objects."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unet_studio.errors import ClickError

_YES = frozenset({"1", "1.0", "true", "yes", "+", "positive"})
_NO = frozenset({"0", "0.0", "false", "no", "-", "-1", "negative"})
_NAPARI = "axis-"  # how a Points layer's table calls the axes: axis-0, axis-1, ...


@dataclass(frozen=True)
class Group:
    """The clicks on one object, in their order.

    Attributes
    ----------
    name : str
    clicks : tuple of (position, positive)
        A position has one number per axis of the image without C, in its order.
    """

    name: str
    clicks: tuple[tuple[tuple[float, ...], bool], ...]


def group_of(
    positive: Iterable[Sequence[float]], negative: Iterable[Sequence[float]], name: str = "1"
) -> Group:
    """Return one object's clicks: first those on it, then those beside it."""
    on = [(tuple(p), True) for p in positive]
    beside = [(tuple(p), False) for p in negative]
    return Group(name, (*on, *beside))


def read_groups(path: str | Path, axes: str) -> tuple[Group, ...]:
    """Read objects from a table of clicks.

    Parameters
    ----------
    path : str or Path
        Values separated by commas, with a heading. Columns: the letters of the axes, or
        ``axis-0``, ``axis-1``, ... as napari saves points; ``object``, equal for clicks on
        the same object (without it they are all of one); ``positive``, 1 or 0 (without it
        all are 1). Other columns are not looked at.
    axes : str
        Of the image, without C, in its order.

    Returns
    -------
    tuple of Group
        In the order in which they are named first.

    Raises
    ------
    ClickError
        If the table can not be read; the message names the row.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, skipinitialspace=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ClickError(f"The table {path} can not be read: {error}. Check its name.") from error
    if not rows:
        raise ClickError(f"The table {path} holds no clicks. It needs a heading and a row each.")
    columns = _columns(path, [str(name) for name in rows[0]], axes)
    found: dict[str, list[tuple[tuple[float, ...], bool]]] = {}
    for line, row in enumerate(rows, 2):
        name = (row.get("object") or "").strip() or "1"
        found.setdefault(name, []).append(
            (_position(path, line, row, columns), _polarity(path, line, row))
        )
    return tuple(Group(name, tuple(clicks)) for name, clicks in found.items())


def _columns(path: Path, heading: Sequence[str], axes: str) -> list[str]:
    letters = {name.strip().upper(): name for name in heading if len(name.strip()) == 1}
    if all(axis in letters for axis in axes):
        return [letters[axis] for axis in axes]
    numbered = [f"{_NAPARI}{index}" for index in range(len(axes))]
    if all(name in heading for name in numbered) and f"{_NAPARI}{len(axes)}" not in heading:
        return numbered
    raise ClickError(
        f"The table {path} needs a column for each of {', '.join(axes)}, or {numbered[0]} to "
        f"{numbered[-1]}; it has {', '.join(heading)}."
    )


def _position(
    path: Path, line: int, row: Mapping[str, str | None], columns: Sequence[str]
) -> tuple[float, ...]:
    try:
        found = tuple(float(row[name] or "") for name in columns)
    except ValueError:
        found = (math.nan,)
    if not all(map(math.isfinite, found)):
        values = ", ".join(str(row[name]) for name in columns)
        raise ClickError(
            f"Line {line} of {path} has no numbers as its position: {values}. Write one per axis."
        )
    return found


def _polarity(path: Path, line: int, row: Mapping[str, str | None]) -> bool:
    word = row.get("positive")
    if word is None or not word.strip() or word.strip().casefold() in _YES:
        return True
    if word.strip().casefold() in _NO:
        return False
    raise ClickError(f"Line {line} of {path}: positive is {word!r}; write 1 or 0.")
