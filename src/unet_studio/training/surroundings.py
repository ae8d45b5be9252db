"""The surroundings of strokes: where something is said of what was not painted, and what.

Crops that a network learns from show more than strokes: so far around them as crops around them
may reach, a guess (:mod:`~unet_studio.training.first_guess`) or what was accepted of a result
(:mod:`~unet_studio.training.accepted`) stands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from unet_studio.training.exercises import Exercise

# Around the strokes of a frame, in pixels: what crops around them may show, of planes and volumes.
_AROUND = {2: (112, 112), 3: (12, 40, 40)}
_LARGEST = 1 << 19  # pixels that are looked at in one go: of a forest's features half a gigabyte
_MOST = 1 << 23  # pixels that are looked at in all, of images that are looked at in one go


@dataclass(frozen=True)
class Window:
    """A part of one frame of an image.

    Attributes
    ----------
    frame : tuple of int
        Position along the axes before the network's.
    start, stop : tuple of int
        First pixel, and first pixel beyond, [Z] Y X.
    """

    frame: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """In pixels, [Z] Y X."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True, eq=False)
class Guess:
    """What is thought of one image where nothing was painted.

    Attributes
    ----------
    planes : dict of frame to list of (start, array of float16, axes (K, [Z,] Y, X))
        Probabilities of the classes, background first, in parts of some frames; 0 for all where
        there is nothing to go by.
    count : int
        K.
    """

    planes: dict[tuple[int, ...], list[tuple[tuple[int, ...], NDArray[np.float16]]]]
    count: int

    @property
    def windows(self) -> list[tuple[Window, NDArray[np.float16]]]:
        """What something is said of, and what is said of it."""
        return [
            (_window(frame, start, plane), plane)
            for frame, planes in self.planes.items()
            for start, plane in planes
        ]

    @property
    def parts(self) -> list[Window]:
        """What something is said of."""
        return [window for window, _ in self.windows]

    def block(
        self, frame: tuple[int, ...], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return a part, axes (K, [Z,] Y, X); 0 for all classes where nothing is said.

        Windows overlap: what one of them says nothing of, none does.
        """
        shape = [b - a for a, b in zip(start, stop, strict=True)]
        block, seen = np.zeros((self.count, *shape), np.float32), np.zeros(shape, bool)
        for corner, plane in self.planes.get(frame, ()):
            low = [max(s, c) for s, c in zip(start, corner, strict=True)]
            high = [min(s, c + n) for s, c, n in zip(stop, corner, plane.shape[1:], strict=True)]
            if all(a < b for a, b in zip(low, high, strict=True)):
                into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
                out = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
                silent = seen[into] & ~block[(slice(None), *into)].any(0)
                block[(slice(None), *into)] = np.where(silent, 0, plane[(slice(None), *out)])
                seen[into] = True
        return block


def _window(frame: tuple[int, ...], start: tuple[int, ...], plane: NDArray[np.float16]) -> Window:
    stop = tuple(s + n for s, n in zip(start, plane.shape[1:], strict=True))
    return Window(frame, start, stop)


def guess_of(parts: Sequence[tuple[Window, NDArray[np.float16]]], count: int) -> Guess | None:
    """Return what is said of the parts of one image, None if there are none."""
    planes: dict[tuple[int, ...], list[tuple[tuple[int, ...], NDArray[np.float16]]]] = {}
    for window, plane in parts:
        planes.setdefault(window.frame, []).append((window.start, plane))
    return Guess(planes, count) if planes else None


def windows_around(exercise: Exercise) -> list[Window]:
    """Return the surroundings of the strokes of each frame, in parts where they are large."""
    ndim, places = exercise.ndim, exercise.annotations.places
    around = np.asarray(_AROUND[ndim])
    windows: list[Window] = []
    for frame in np.unique(places[:, :-ndim], axis=0):
        groups: list[NDArray[np.integer[Any]]] = [
            places[(places[:, :-ndim] == frame).all(axis=1), -ndim:]
        ]
        while groups:
            inside = groups.pop()
            start = np.maximum(0, inside.min(0) - around)
            stop = np.minimum(exercise.shape, inside.max(0) + around + 1)
            if math.prod((stop - start).tolist()) <= _LARGEST:
                where = (tuple(a.tolist()) for a in (frame, start, stop))
                windows.append(Window(*where))
            else:
                groups.extend(_parted(inside, around))
    return windows


def _parted(
    places: NDArray[np.integer[Any]], around: NDArray[np.int64]
) -> list[NDArray[np.integer[Any]]]:
    """Part pixels in two, along their longest side: at the widest gap, or in the middle.

    Parameters
    ----------
    places : array of int, axes (pixels, [Z,] Y, X)
        Not all in one place.
    around : array of int
        How much of what is around them is looked at along each axis.
    """
    axis = int(np.argmax(places.max(0) - places.min(0)))
    along = np.unique(places[:, axis]).astype(np.int64)
    gaps = np.diff(along)
    widest = int(np.argmax(gaps))
    cut = along[widest] if gaps[widest] > 2 * around[axis] else (along[0] + along[-1]) // 2
    before = places[:, axis] <= cut
    return [places[~before], places[before]]


def affordable(
    exercises: Sequence[Exercise], looks: Callable[[Exercise], int], seed: int
) -> list[tuple[int, Window]]:
    """Return windows with the number of their image: all, or by chance what memory allows.

    Parameters
    ----------
    exercises : sequence of Exercise
    looks : callable
        How many times as much is to be kept of an image as of one that is looked at in one go.
    seed : int
    """
    every = [(number, w) for number, e in enumerate(exercises) for w in windows_around(e)]
    times = [looks(e) for e in exercises]
    sizes = [times[number] * math.prod(window.shape) for number, window in every]
    if sum(sizes) <= _MOST:
        return every
    order = np.random.default_rng(seed).permutation(len(every))
    kept = order[np.cumsum(np.asarray(sizes)[order]) <= _MOST]
    return [every[i] for i in sorted(kept.tolist())]
