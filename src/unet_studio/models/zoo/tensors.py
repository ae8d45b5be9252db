"""Images that go into a network and come out of it, the same for formats 0.4 and 0.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

LETTERS = {"batch": "b", "channel": "c", "z": "z", "y": "y", "x": "x"}
# The only length, or the least one and the step between possible ones, in pixels.
Size = int | tuple[int, int]


class Loose(BaseModel):
    """What a description says, as far as it matters here."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FileEntry(Loose):
    """A file, by its name in the package or its web address."""

    source: str
    sha256: str | None = None


class Process(Loose):  # type: ignore[no-redef]  # pydantic's own **kwargs
    """A step of pre- or post-processing."""

    id: str = ""
    name: str = ""
    kwargs: dict[str, Any] = Field(default_factory=dict)

    @property
    def what(self) -> str:
        """Its name, in both formats."""
        return self.id or self.name


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor.

    Attributes
    ----------
    letter : str
        Of ``bczyx``.
    size : int or (int, int) or None
        Of inputs; None for the batch.
    names : tuple of str
        Of the channels.
    scale : float
        Size of a pixel, in ``unit``; 1 if not given.
    unit : str or None
    halo : int
        Of outputs: what to leave out on both sides, in pixels.
    """

    letter: str
    size: Size | None = None
    names: tuple[str, ...] = ()
    scale: float = 1.0
    unit: str | None = None
    halo: int = 0


@dataclass(frozen=True)
class Tensor:
    """An image that goes into the network, or comes out of it."""

    id: str
    axes: tuple[Axis, ...]
    processes: tuple[Process, ...] = ()
    test: FileEntry | None = None
    range: tuple[float | None, float | None] | None = None

    @property
    def letters(self) -> str:
        """Its axes in order."""
        return "".join(axis.letter for axis in self.axes)

    @property
    def spatial(self) -> tuple[Axis, ...]:
        """Its spatial axes in the order [Z] Y X."""
        return tuple(a for letter in "zyx" for a in self.axes if a.letter == letter)

    @property
    def channels(self) -> int:
        """How many channels it has."""
        return next((int(str(a.size)) for a in self.axes if a.letter == "c"), 1)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of its channels, if it has any."""
        return next((a.names for a in self.axes if a.letter == "c"), ())
