"""What the user points at, and a mask that knows its place: the values of Click."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["click", "scribble"]
Point = tuple[float, float]
Pixel = tuple[int, int]


@dataclass(frozen=True)
class Prompt:
    """One click or one stroke on a plane of the image.

    Attributes
    ----------
    points : tuple of (float, float)
        Y, X in pixels; whole numbers are the centres of pixels. A click has one, a
        scribble those of a polyline.
    positive : bool
        On the object; else beside it.
    kind : {"click", "scribble"}
    """

    points: tuple[Point, ...]
    positive: bool = True
    kind: Kind = "click"

    def pixels(self) -> tuple[Pixel, ...]:
        """Return the pixels (Y, X) that were pointed at, each once."""
        found = [pixel_of(p) for p in self.points[:1]]
        for start, stop in zip(self.points, self.points[1:], strict=False):
            steps = math.ceil(2 * max(abs(stop[0] - start[0]), abs(stop[1] - start[1]), 0.5))
            for step in range(1, steps + 1):
                part = step / steps
                at = [a + (b - a) * part for a, b in zip(start, stop, strict=True)]
                found.append(pixel_of(at))
        return tuple(dict.fromkeys(found))

    def sampled(self, spacing: float, most: int = 24) -> list[Point]:
        """Return points along the stroke, at least ``spacing`` pixels apart."""
        kept: list[Point] = []
        for pixel in self.pixels() if len(self.points) > 1 else self.points:
            y, x = float(pixel[0]), float(pixel[1])
            if not kept or max(abs(y - kept[-1][0]), abs(x - kept[-1][1])) >= spacing:
                kept.append((y, x))
        if len(kept) <= most:
            return kept
        return [kept[round(i)] for i in np.linspace(0, len(kept) - 1, most).tolist()]


def pixel_along(coordinate: float) -> int:
    """Return the pixel that a coordinate lies in; pixel i reaches from i - 0.5 to i + 0.5."""
    return math.floor(coordinate + 0.5)


def pixel_of(point: Sequence[float]) -> Pixel:
    """Return the pixel that a point of a plane (Y, X) lies in."""
    y, x = map(pixel_along, point)
    return y, x


@dataclass(frozen=True)
class PlaneBox:
    """A rectangle of a plane: first pixel, and first pixel beyond, along Y and X."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width; 0 if it is empty."""
        return max(0, self.bottom - self.top), max(0, self.right - self.left)

    @property
    def longer(self) -> int:
        """The longer side."""
        return max(self.shape)

    @property
    def centre(self) -> Point:
        """The middle, Y, X, in pixels."""
        return (self.top + self.bottom - 1) / 2, (self.left + self.right - 1) / 2

    @property
    def slices(self) -> tuple[slice, slice]:
        """What to index a plane with."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def join(self, other: PlaneBox) -> PlaneBox:
        """Return the least box that holds both; an empty one adds nothing."""
        if 0 in self.shape:
            return other
        if 0 in other.shape:
            return self
        return PlaneBox(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )

    def overlap(self, other: PlaneBox) -> PlaneBox:
        """Return what both have in common; ``NOWHERE`` if that is nothing."""
        found = PlaneBox(
            max(self.top, other.top),
            max(self.left, other.left),
            min(self.bottom, other.bottom),
            min(self.right, other.right),
        )
        return NOWHERE if 0 in found.shape else found

    def holds(self, pixel: Pixel) -> bool:
        """Whether a pixel lies in it."""
        return self.top <= pixel[0] < self.bottom and self.left <= pixel[1] < self.right


NOWHERE = PlaneBox(0, 0, 0, 0)


def box_at(top: int, left: int, shape: Sequence[int]) -> PlaneBox:
    """Return the box of an array (Y, X) whose first pixel lies there."""
    return PlaneBox(top, left, top + shape[0], left + shape[1])


def box_of(pixels: Sequence[Pixel]) -> PlaneBox:
    """Return the least box that holds some pixels."""
    if not pixels:
        return NOWHERE
    ys, xs = zip(*pixels, strict=True)
    return PlaneBox(min(ys), min(xs), max(ys) + 1, max(xs) + 1)


@dataclass(frozen=True, eq=False)
class Patch:
    """Values of a part of a plane; everything outside is 0.

    Attributes
    ----------
    top, left : int
        Where in the plane the first pixel is.
    values : array, axes (Y, X), read-only
        bool of a mask, float16 of probabilities.
    """

    top: int
    left: int
    values: NDArray[Any]

    def __post_init__(self) -> None:
        self.values.setflags(write=False)

    @property
    def box(self) -> PlaneBox:
        """Where it lies."""
        return box_at(self.top, self.left, self.values.shape)

    def within(self, box: PlaneBox) -> NDArray[Any]:
        """Return the values in a box, 0 where there are none; a copy."""
        found = np.zeros(box.shape, self.values.dtype)
        top, left = max(box.top, self.top), max(box.left, self.left)
        bottom = min(box.bottom, self.top + self.values.shape[0])
        right = min(box.right, self.left + self.values.shape[1])
        if top < bottom and left < right:
            part = self.values[
                top - self.top : bottom - self.top, left - self.left : right - self.left
            ]
            found[top - box.top : bottom - box.top, left - box.left : right - box.left] = part
        return found

    def has(self, pixel: Pixel) -> bool:
        """Whether the value at a pixel of the plane is not 0."""
        return self.box.holds(pixel) and bool(
            self.values[pixel[0] - self.top, pixel[1] - self.left]
        )


def patch_of(values: NDArray[Any], top: int, left: int, least: float = 0) -> Patch:
    """Return a patch of the part of an array that is above ``least``.

    Parameters
    ----------
    values : array, axes (Y, X)
    top, left : int
        Where in the plane its first pixel is.
    """
    above = values if values.dtype == bool else values > least
    rows, columns = np.flatnonzero(above.any(axis=1)), np.flatnonzero(above.any(axis=0))
    if not len(rows):
        return Patch(top, left, np.zeros((0, 0), values.dtype))
    part = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].copy()
    return Patch(top + int(rows[0]), left + int(columns[0]), part)


EMPTY = Patch(0, 0, np.zeros((0, 0), bool))


@dataclass(frozen=True)
class Prompts:
    """All that was pointed at on one plane.

    Attributes
    ----------
    marks : tuple of Prompt
        In their order.
    box : PlaneBox or None
        The object lies within.
    start : Patch or None
        A mask that was given to begin with.
    """

    marks: tuple[Prompt, ...] = ()
    box: PlaneBox | None = None
    start: Patch | None = None

    def and_mark(self, mark: Prompt) -> Prompts:
        """Return the prompts with one more; it takes back earlier clicks on its pixels."""
        taken = set(mark.pixels())
        kept = (m for m in self.marks if m.kind != "click" or taken.isdisjoint(m.pixels()))
        return replace(self, marks=(*kept, mark))

    def pixels(self, positive: bool) -> list[Pixel]:
        """Return the pixels clicked as object, or as not object; the last word counts."""
        said = {pixel: mark.positive for mark in self.marks for pixel in mark.pixels()}
        return [pixel for pixel, word in said.items() if word == positive]

    def points(self, positive: bool, spacing: float) -> list[Point]:
        """Return the points that the network is shown."""
        return [p for m in self.marks if m.positive == positive for p in m.sampled(spacing)]
