"""Open sets of parts: a name leads to ``"module:attribute"``, imported on first use.

A new network, normaliser, reader, objects method and so on is one file plus
one line here, or an entry point of another distribution.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from importlib.metadata import entry_points as installed_entry_points
from typing import Generic, TypeVar, cast

from unet_studio.errors import RecipeError

T = TypeVar("T")


def perhaps(name: str, known: Iterable[str]) -> str:
    """Return a sentence (after a space) with the known name that is meant, if one is like it."""
    near = get_close_matches(name, list(known), 1)
    return f" Perhaps {near[0]!r} is meant." if near else ""


class Registry(Generic[T]):
    """Names of one kind of part, in order of registration.

    Parameters
    ----------
    kind : str
        What the parts are, in the singular, for messages ("network").
    targets : mapping of str to str
        Name to ``"module:attribute"``.
    entry_points : str
        Entry-point group through which other distributions add parts. A
        built-in name can not be overridden from outside.
    """

    def __init__(self, kind: str, targets: Mapping[str, str], entry_points: str) -> None:
        self.kind = kind
        self._targets = dict(targets)
        self._group = entry_points
        self._loaded: dict[str, T] = {}
        self._scanned = False

    def names(self) -> list[str]:
        """Return every known name."""
        self._scan()
        return list(self._targets)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def register(self, name: str, part: T | str) -> None:
        """Add a part at run time: the object itself or its ``"module:attribute"``.

        Raises
        ------
        ValueError
            If the name is taken.
        """
        if name in self:
            raise ValueError(f"There is already a {self.kind} called {name!r}.")
        if isinstance(part, str):
            self._targets[name] = part
        else:
            self._targets[name] = f"{type(part).__module__}:{name}"
            self._loaded[name] = part

    def load(self, name: str) -> T:
        """Return the part called ``name``, importing its module if necessary.

        Raises
        ------
        RecipeError
            If the name is unknown; the message lists the known ones.
        """
        if name not in self:
            known, meant = ", ".join(self.names()), perhaps(name, self.names())
            raise RecipeError(f"There is no {self.kind} called {name!r}. Known: {known}.{meant}")
        if name not in self._loaded:
            module, _, attribute = self._targets[name].partition(":")
            self._loaded[name] = cast("T", getattr(importlib.import_module(module), attribute))
        return self._loaded[name]

    def _scan(self) -> None:
        if self._scanned:
            return
        for point in installed_entry_points(group=self._group):
            self._targets.setdefault(point.name, point.value)
        self._scanned = True  # last: another thread must not see half of them
