"""A first guess of what strokes mean for the pixels around them, for networks that know nothing.

A forest and a regression learn from a few strokes in a second what a network takes minutes to
find out, but have no idea of shapes. What they say, half of it each, is a soft target where
nothing was painted (:func:`~unet_studio.training.sparse_loss.guess_loss`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unet_studio.training.consistency import chance_of_telling_apart
from unet_studio.training.forest import grow_forest
from unet_studio.training.pixel_features import EVERY, photographs, plane_features
from unet_studio.training.regions import Region, find_regions
from unet_studio.training.regression import fit_regression
from unet_studio.training.surroundings import Guess, Window, affordable, guess_of

if TYPE_CHECKING:
    import torch

    from unet_studio.training.exercises import Exercise

# What is learned from: of dense annotations an even choice of each class's cells, and of their
# pixels.
_MOST_REGIONS, _MOST_OF_REGION, _MOST_LEARNED = 512, 128, 1 << 15
# Few strokes make voters less sure than they are right, and a network that learns from them still
# less: probabilities are sharpened as in MixMatch (Berthelot et al. 2019, arXiv:1905.02249), to
# this power (measured in benchmarks/results/refine.md).
_SHARPER = 4.0
# The probability where nothing was guessed; it carries no weight.
NO_IDEA = 0.5


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
    parts: list[tuple[int, Window, NDArray[np.float16]]] = []
    strokes, all_strokes = _Strokes(exercises, count), _Strokes(every or (), count)
    # Grey images for a network that wants colour have the same three times.
    grey = all(len(e.channel_map.channels) == 1 for e in exercises)
    for number, window in affordable(every or exercises, _looks, seed):
        check()
        image = exercises[number].photograph(window.frame, window.start, window.stop)
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
    found: list[list[tuple[Window, NDArray[np.float16]]]] = [[] for _ in exercises]
    sure: list[NDArray[np.float32]] = []
    for number, window, coarse in parts:
        check()
        pixels = coarse.reshape(-1, coarse.shape[-1]).astype(np.float32)
        votes = np.mean([v.probabilities(pixels) for v in voters], axis=0)
        sure.append(votes.max(axis=1))
        plane = _sharpened(votes).reshape(*coarse.shape[:2], count).transpose(2, 0, 1)
        fine = plane.repeat(EVERY, 1).repeat(EVERY, 2)
        height, width = window.shape
        found[number].append((window, fine[:, :height, :width].astype(np.float16)))
    guesses = tuple(guess_of(own, count) for own in found)
    return Guessed(guesses, chance, _certainty(np.concatenate(sure), len(set(strokes.kinds))))


def _looks(exercise: Exercise) -> int:
    return photographs(len(exercise.channel_map.channels))


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

    def take(self, number: int, window: Window, features: NDArray[np.float16]) -> None:
        """Note the features of those regions that lie in a window, or of their part in it."""
        start, stop = np.asarray(window.start), np.asarray(window.stop)
        left = []
        for region in self._waiting:
            rows = np.zeros(0, np.int64)
            if (region.exercise, region.frame) == (number, window.frame):
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
    """Return the probability of anything but background, axes (N, 1, [Z,] Y, X).

    Where nothing was guessed it is :data:`NO_IDEA`.
    """
    return (NO_IDEA * (1 + guess[:, 1:2] - guess[:, :1])).clamp(0, 1)


def has_said(probabilities: torch.Tensor) -> torch.Tensor:
    """Return where there is anything to go by, axes (N, [Z,] Y, X).

    Parameters
    ----------
    probabilities : tensor of float32, axes (N, C, [Z,] Y, X)
        Of classes, all 0 where nothing was guessed, or of :func:`foreground_of`.
    """
    nothing = NO_IDEA if probabilities.shape[1] == 1 else 0.0
    return (probabilities != nothing).any(1)
