"""A first guess of what strokes mean for the pixels around them, for networks that know nothing.

A forest learns from a few strokes in a second what a network takes minutes to find
out, but has no idea of shapes. Its guess is a soft target where nothing was painted;
the loss that it goes into (:func:`~unet_studio.training.sparse_loss.trust_loss`) lets
strokes overrule it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.training.forest import grow_forest

if TYPE_CHECKING:
    import torch

    from unet_studio.training.exercises import Exercise

# Around the strokes of a plane, in pixels: what crops around them may show.
_AROUND = 112
_LARGEST = 1 << 20  # pixels that are guessed at in one go
_MOST = 1 << 25  # pixels that are guessed at in all
_SIGMAS = (1.0, 16.0)
# The probability where nothing was guessed; it carries no weight.
NO_IDEA = 0.5
_EVERY = 2  # guessed at every second pixel, and enlarged
# Frame, first pixel, and first pixel beyond.
_Window = tuple[tuple[int, ...], tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Guess:
    """What a forest says of one image.

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


def first_guess(
    exercises: Sequence[Exercise],
    count: int,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> list[Guess | None]:
    """Grow a forest from all strokes, and ask it about their surroundings.

    Parameters
    ----------
    exercises : sequence of Exercise
        Of a network in two dimensions.
    count : int
        Number of classes, background included.
    seed : int
    check : callable, optional
        Called between planes; may raise to stop.

    Returns
    -------
    list of Guess or None
        None for images without strokes, and for all if one class only was painted.
    """
    parts: list[tuple[int, _Window, NDArray[np.float32]]] = []
    known: list[NDArray[np.float32]] = []
    painted: list[NDArray[np.int64]] = []
    for number, window in _affordable([_windows(e) for e in exercises], seed):
        if check is not None:
            check()
        exercise = exercises[number]
        labels = exercise.labels(*window)
        features = plane_features(exercise.image(*window))
        if exercise.annotations.mode == "objects":
            labels = np.minimum(labels, 2)
        known.append(features[labels > 0])
        painted.append(labels[labels > 0].astype(np.int64) - 1)
        # Of the rest no more is kept than is asked about.
        parts.append((number, window, features[::_EVERY, ::_EVERY].copy()))
    every = np.concatenate(painted) if painted else np.zeros(0, np.int64)
    if len(np.unique(every)) < 2:
        return [None] * len(exercises)
    forest = grow_forest(np.concatenate(known), every, count, seed)
    planes: list[dict[tuple[int, ...], list[tuple[tuple[int, int], NDArray[np.float16]]]]] = [
        {} for _ in exercises
    ]
    for number, (frame, start, stop), coarse in parts:
        if check is not None:
            check()
        votes = forest.probabilities(coarse.reshape(-1, coarse.shape[-1]))
        plane = votes.reshape(*coarse.shape[:2], count).transpose(2, 0, 1)
        fine = plane.repeat(_EVERY, 1).repeat(_EVERY, 2)
        fine = fine[:, : stop[0] - start[0], : stop[1] - start[1]]
        planes[number].setdefault(frame, []).append((start, fine.astype(np.float16)))
    return [Guess(found, count) if found else None for found in planes]


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


def plane_features(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a pixel's surroundings look like, axes (Y, X, features).

    Intensity and the eigenvalues of the Hessian at five scales, as scikit-image's
    trainable segmentation has them.

    Parameters
    ----------
    image : array of float32, axes (C, Y, X)
    """
    from skimage.feature import multiscale_basic_features

    if (image == image[:1]).all():  # a grey image for a network that wants colour
        image = image[:1]
    return np.asarray(
        multiscale_basic_features(
            image, intensity=True, edges=False, texture=True, sigma_min=_SIGMAS[0],
            sigma_max=_SIGMAS[1], channel_axis=0,
        ), np.float32,
    )  # fmt: skip


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


def _affordable(windows: Sequence[Sequence[_Window]], seed: int) -> list[tuple[int, _Window]]:
    """Return windows with the number of their image: all, or by chance what memory allows."""
    every = [(number, window) for number, those in enumerate(windows) for window in those]
    sizes = [math.prod(b - a for a, b in zip(w[1], w[2], strict=True)) for _, w in every]
    if sum(sizes) <= _MOST:
        return every
    order = np.random.default_rng(seed).permutation(len(every))
    kept = order[np.cumsum(np.asarray(sizes)[order]) <= _MOST]
    return [every[i] for i in sorted(kept.tolist())]
