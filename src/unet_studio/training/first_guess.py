"""A first guess of what strokes mean for the pixels around them, for networks that know nothing.

A forest and a regression learn from a few strokes in a second what a network takes minutes to
find out, but have no idea of shapes. What they say, half of it each, is a soft target where
nothing was painted (:func:`~unet_studio.training.sparse_loss.guess_loss`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.training.consistency import chance_of_telling_apart
from unet_studio.training.forest import grow_forest
from unet_studio.training.pixel_features import EVERY, photographs, plane_features
from unet_studio.training.regions import Region, find_regions
from unet_studio.training.regression import fit_regression

if TYPE_CHECKING:
    import torch

    from unet_studio.training.exercises import Exercise

# Around the strokes of a plane, in pixels: what crops around them may show.
_AROUND = 112
_LARGEST = 1 << 19  # pixels that are guessed at in one go: half a gigabyte
_MOST = 1 << 23  # pixels that are guessed at in all, of images that are looked at in one go
# What is learned from: of dense annotations an even choice of each class's cells, and of their
# pixels.
_MOST_REGIONS, _MOST_OF_REGION, _MOST_LEARNED = 512, 128, 1 << 15
# Few strokes make voters less sure than they are right, and a network that learns from them still
# less: probabilities are sharpened as in MixMatch (Berthelot et al. 2019, arXiv:1905.02249), to
# this power (measured in benchmarks/results/refine.md).
_SHARPER = 4.0
# The probability where nothing was guessed; it carries no weight.
NO_IDEA = 0.5
# Frame, first pixel, and first pixel beyond.
_Window = tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Guess:
    """What is guessed of one image.

    Attributes
    ----------
    planes : dict of frame to list of (start, array of float16, axes (K, Y, X))
        Probabilities of the classes, background first, in parts of some frames.
    count : int
        K.
    """

    planes: dict[tuple[int, ...], list[tuple[tuple[int, int], NDArray[np.float16]]]]
    count: int

    @property
    def parts(self) -> list[_Window]:
        """Frame, start and shape (Y, X) of what was guessed at, in pixels."""
        return [
            (frame, start, (plane.shape[1], plane.shape[2]))
            for frame, planes in self.planes.items()
            for start, plane in planes
        ]

    def block(
        self, frame: tuple[int, ...], start: Sequence[int], stop: Sequence[int]
    ) -> NDArray[np.float32]:
        """Return a part, axes (K, Y, X); 0 for all classes where nothing was guessed."""
        block = np.zeros((self.count, stop[0] - start[0], stop[1] - start[1]), np.float32)
        for corner, plane in self.planes.get(frame, ()):
            low = [max(s, c) for s, c in zip(start, corner, strict=True)]
            high = [min(s, c + n) for s, c, n in zip(stop, corner, plane.shape[1:], strict=True)]
            if low[0] < high[0] and low[1] < high[1]:
                into = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
                out = tuple(slice(a - c, b - c) for a, b, c in zip(low, high, corner, strict=True))
                block[(slice(None), *into)] = plane[(slice(None), *out)]
        return block


@dataclass(frozen=True, eq=False)
class Guessed:
    """What strokes are thought to mean.

    Attributes
    ----------
    guesses : tuple of Guess or None
        One per image; None for those without strokes, and for all if one class only was painted.
    chance : float or None
        How likely strokes were told apart as well if their classes meant nothing
        (:func:`~unet_studio.training.consistency.chance_of_telling_apart`); None where nothing
        was guessed, or nobody asked.
    certainty : float or None
        How sure those who guessed were on average, before their guess was sharpened, range
        [0, 1]: 0 is as good as drawing lots. None where nothing was guessed.
    """

    guesses: tuple[Guess | None, ...]
    chance: float | None = None
    certainty: float | None = None


def first_guess(
    exercises: Sequence[Exercise],
    count: int,
    seed: int = 0,
    check: Callable[[], None] | None = None,
    every: Sequence[Exercise] | None = None,
) -> Guessed:
    """Learn from strokes, and say what their surroundings are likely to be.

    Parameters
    ----------
    exercises : sequence of Exercise
        Of a network in two dimensions.
    count : int
        Number of classes, background included.
    seed : int
    check : callable, optional
        Called between planes; may raise to stop.
    every : sequence of Exercise, optional
        The same images with what is not to be learned from, too: its surroundings are guessed
        as well, and by all of it is seen whether classes mean anything.
    """
    check = check or (lambda: None)
    parts: list[tuple[int, _Window, NDArray[np.float16]]] = []
    strokes, all_strokes = _Strokes(exercises, count), _Strokes(every or (), count)
    # Grey images for a network that wants colour have the same three times.
    grey = all(len(e.channel_map.channels) == 1 for e in exercises)
    for number, window in _affordable(every or exercises, seed):
        check()
        image = exercises[number].photograph(*window)
        features = plane_features(image[:1] if grey else image).astype(np.float16)
        strokes.take(number, window, features)
        all_strokes.take(number, window, features)
        parts.append((number, window, features))
    if len(set(strokes.kinds)) < 2:
        return Guessed((None,) * len(exercises))
    chance = None
    if every is not None:
        chance = chance_of_telling_apart(*all_strokes.pixels(), count, seed, check)
    seen, classes, _ = strokes.pixels()
    voters = grow_forest(seen, classes, count, seed), fit_regression(seen, classes, count)
    planes: list[dict[tuple[int, ...], list[tuple[tuple[int, int], NDArray[np.float16]]]]] = [
        {} for _ in exercises
    ]
    sure: list[NDArray[np.float32]] = []
    for number, (frame, start, stop), coarse in parts:
        check()
        pixels = coarse.reshape(-1, coarse.shape[-1]).astype(np.float32)
        votes = np.mean([v.probabilities(pixels) for v in voters], axis=0)
        sure.append(votes.max(axis=1))
        plane = _sharpened(votes).reshape(*coarse.shape[:2], count).transpose(2, 0, 1)
        fine = plane.repeat(EVERY, 1).repeat(EVERY, 2)
        fine = fine[:, : stop[0] - start[0], : stop[1] - start[1]]
        planes[number].setdefault(frame, []).append((start, fine.astype(np.float16)))
    guesses = tuple(Guess(found, count) if found else None for found in planes)
    return Guessed(guesses, chance, _certainty(np.concatenate(sure), len(set(strokes.kinds))))


def _certainty(sure: NDArray[np.float32], kinds: int) -> float:
    """Return the mean probability of the likeliest of so many classes, as 0 (by lots) to 1."""
    return (kinds * float(sure.mean(dtype=np.float64)) - 1) / (kinds - 1)


def _sharpened(votes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities that are surer of the same answers, axes (pixels, classes)."""
    powers: NDArray[np.float32] = votes ** np.float32(_SHARPER)
    shares: NDArray[np.float32] = powers / np.maximum(powers.sum(1, keepdims=True), 1e-12)
    return shares


class _Strokes:
    """Features of what was painted, region by region."""

    def __init__(self, exercises: Sequence[Exercise], count: int) -> None:
        every = [r for i, e in enumerate(exercises) for r in find_regions(e.annotations, 2, i)]
        self._waiting: list[Region] = []
        for kind in range(1, count + 1):  # painted meanwhile may be what the model does not know
            own = [r for r in every if r.kind == kind]
            self._waiting += [own[i] for i in _evenly(len(own), _MOST_REGIONS // count)]
        self._most = min(_MOST_OF_REGION, _MOST_LEARNED // max(1, len(self._waiting)))
        self._features: list[NDArray[np.float16]] = []
        self.kinds: list[int] = []

    def take(self, number: int, window: _Window, features: NDArray[np.float16]) -> None:
        """Note the features of those regions that lie in a window, or of their part in it."""
        frame, start, stop = window
        left = []
        for region in self._waiting:
            rows = np.zeros(0, np.int64)
            if (region.exercise, region.frame) == (number, frame):
                inside = (region.places >= start) & (region.places < stop)
                rows = np.flatnonzero(inside.all(axis=1))
            if not len(rows):
                left.append(region)
                continue
            some = rows[_evenly(len(rows), self._most)]
            y, x = ((region.places[some] - start) // EVERY).T
            self._features.append(features[y, x])
            self.kinds.append(region.kind - 1)
        self._waiting = left

    def pixels(self) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
        """Return features, classes and regions of all pixels."""
        sizes = [len(f) for f in self._features]
        regions = np.repeat(np.arange(len(sizes)), sizes)
        classes = np.asarray(self.kinds, np.int64)[regions]
        return np.concatenate(self._features).astype(np.float32), classes, regions


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return up to so many of the first ``count`` numbers, evenly spread."""
    return np.linspace(0, count - 1, min(count, max(most, 1))).astype(np.int64)


def foreground_of(guess: torch.Tensor) -> torch.Tensor:
    """Return the probability of anything but background, axes (N, 1, Y, X).

    Where nothing was guessed it is :data:`NO_IDEA`.
    """
    return (NO_IDEA * (1 + guess[:, 1:].sum(1, keepdim=True) - guess[:, :1])).clamp(0, 1)


def has_said(probabilities: torch.Tensor) -> torch.Tensor:
    """Return where there is anything to go by, axes (N, Y, X).

    Parameters
    ----------
    probabilities : tensor of float32, axes (N, C, Y, X)
        Of classes, all 0 where nothing was guessed, or of :func:`foreground_of`.
    """
    nothing = NO_IDEA if probabilities.shape[1] == 1 else 0.0
    return (probabilities != nothing).any(1)


def _windows(exercise: Exercise) -> list[_Window]:
    """Return the surroundings of the strokes of each frame, in parts where they are large."""
    places = exercise.annotations.places
    height, width = exercise.shape
    windows: list[_Window] = []
    for frame in np.unique(places[:, :-2], axis=0):
        groups: list[NDArray[np.integer[Any]]] = [
            places[(places[:, :-2] == frame).all(axis=1), -2:]
        ]
        while groups:
            inside = groups.pop()
            low, high = inside.min(0) - _AROUND, inside.max(0) + _AROUND + 1
            start = (max(0, int(low[0])), max(0, int(low[1])))
            stop = (min(height, int(high[0])), min(width, int(high[1])))
            if (stop[0] - start[0]) * (stop[1] - start[1]) <= _LARGEST:
                windows.append((tuple(frame.tolist()), start, stop))
            else:
                groups.extend(_parted(inside))
    return windows


def _parted(places: NDArray[np.integer[Any]]) -> list[NDArray[np.integer[Any]]]:
    """Part pixels in two, along their longer side: at the widest gap, or in the middle.

    Parameters
    ----------
    places : array of int, axes (pixels, 2)
        Not all in one place.
    """
    axis = int(np.argmax(places.max(0) - places.min(0)))
    along = np.unique(places[:, axis]).astype(np.int64)
    gaps = np.diff(along)
    widest = int(np.argmax(gaps))
    cut = along[widest] if gaps[widest] > 2 * _AROUND else (along[0] + along[-1]) // 2
    before = places[:, axis] <= cut
    return [places[~before], places[before]]


def _affordable(exercises: Sequence[Exercise], seed: int) -> list[tuple[int, _Window]]:
    """Return windows with the number of their image: all, or by chance what memory allows."""
    every = [(number, window) for number, e in enumerate(exercises) for window in _windows(e)]
    looks = [photographs(len(e.channel_map.channels)) for e in exercises]
    sizes = [
        looks[number] * math.prod(b - a for a, b in zip(start, stop, strict=True))
        for number, (_, start, stop) in every
    ]
    if sum(sizes) <= _MOST:
        return every
    order = np.random.default_rng(seed).permutation(len(every))
    kept = order[np.cumsum(np.asarray(sizes)[order]) <= _MOST]
    return [every[i] for i in sorted(kept.tolist())]
