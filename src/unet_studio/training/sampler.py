"""Batches of crops around annotations, every class and every image getting its turn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.training.augmentation import (
    Augmentation,
    change_appearance,
    log_uniform,
    random_crop,
    uniform,
)
from unet_studio.training.exercises import DEVIATIONS
from unet_studio.training.sparse_targets import sparse_targets

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.exercises import Exercise

# The images are those that the model is for: they need not be disguised, only varied.
GENTLE = Augmentation(
    zoom=(0.8, 1.25),
    stretch=0.1,
    elastic=1.0,
    appearance=0.2,
    contrast=1.3,
    invert=0.0,
    recolour=0.0,
    blur=1.0,
    coarser=1.5,
    noise=0.08,
)
_JITTER = 0.3  # of a crop's edge


@dataclass(frozen=True, eq=False)
class Batch:
    """Crops and what is known of them.

    Attributes
    ----------
    images : tensor of float32, axes (N, C, [Z,] Y, X)
    values : tensor of float32, axes (N, K, [Z,] Y, X)
    known : tensor of bool, same shape as ``values``
    guess : tensor of float32 or None, axes (N, K, [Z,] Y, X)
        Probabilities that are guessed or were accepted, as of
        :class:`~unet_studio.training.surroundings.Guess`.
    """

    images: torch.Tensor
    values: torch.Tensor
    known: torch.Tensor
    guess: torch.Tensor | None = None


class CropSampler:
    """Draws crops around annotated pixels, the same for the same seed.

    Parameters
    ----------
    exercises : sequence of Exercise
        Those without annotations are passed over.
    card : ModelCard
    crop : sequence of int
        Edges of the crops, [Z] Y X, in pixels.
    generator : torch.Generator
    augmentation : Augmentation
    anywhere : float
        Share of a batch's crops that is from anywhere in annotated frames, or in what was guessed
        at of them, range [0, 1).
    beyond : bool
        Whether these crops may lie beyond what was guessed at, too: where an old model is asked.
    """

    def __init__(
        self,
        exercises: Sequence[Exercise],
        card: ModelCard,
        crop: Sequence[int],
        generator: torch.Generator,
        augmentation: Augmentation = GENTLE,
        anywhere: float = 0.0,
        beyond: bool = False,
    ) -> None:
        self.card, self.crop = card, tuple(crop)
        self.generator, self.augmentation = generator, augmentation
        self.anywhere, self.beyond = anywhere, beyond
        self.exercises = [e for e in exercises if len(e.annotations)]
        self._guessed = max((e.guess.count for e in self.exercises if e.guess), default=0)
        self._kinds = [_by_kind(e) for e in self.exercises]
        self._classes = sorted({k for kinds in self._kinds for k in kinds})

    def batch(self, count: int) -> Batch:
        """Draw a batch."""
        crops, values, known, guesses = [], [], [], []
        around = count - int(count * self.anywhere)
        for number in range(count):
            exercise, frame, centre = self._around() if number < around else self._anywhere()
            image, labels, guess = self._cut(exercise, frame, centre)
            mode = exercise.annotations.mode
            targets = sparse_targets(labels, mode, self.card)
            crops.append(image)
            values.append(torch.from_numpy(targets.values))
            known.append(torch.from_numpy(targets.known))
            if guess is not None:
                guesses.append(guess)
        return Batch(
            torch.stack(crops), torch.stack(values), torch.stack(known),
            torch.stack(guesses) if guesses else None,
        )  # fmt: skip

    def _pick(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))

    def _around(self) -> tuple[Exercise, tuple[int, ...], list[float]]:
        """Choose a place near an annotated pixel."""
        # Class first: one that is painted in a single image is as important as others.
        kind = self._classes[self._pick(len(self._classes))]
        having = [i for i, kinds in enumerate(self._kinds) if kind in kinds]
        index = having[self._pick(len(having))]
        exercise = self.exercises[index]
        groups = self._kinds[index][kind]
        rows = groups[self._pick(len(groups))]
        place = exercise.annotations.places[rows[self._pick(len(rows))]]
        ndim = self.card.ndim
        frame = tuple(int(i) for i in place[:-ndim])
        centre = [
            float(p) + uniform(self.generator, -_JITTER, _JITTER) * edge
            for p, edge in zip(place[-ndim:], self.crop, strict=True)
        ]
        return exercise, frame, centre

    def _anywhere(self) -> tuple[Exercise, tuple[int, ...], list[float]]:
        """Choose any place of a frame that was annotated; of a guess, any that it is about."""
        exercise = self.exercises[self._pick(len(self.exercises))]
        if exercise.guess is not None and not self.beyond:
            # Of a large image it tells the surroundings of strokes.
            parts = exercise.guess.parts
            part = parts[self._pick(len(parts))]
            return exercise, part.frame, [
                s + uniform(self.generator, 0, n)
                for s, n in zip(part.start, part.shape, strict=True)
            ]  # fmt: skip
        places, ndim = exercise.annotations.places, self.card.ndim
        frame = tuple(int(i) for i in places[self._pick(len(places)), :-ndim])
        return exercise, frame, [uniform(self.generator, 0, n) for n in exercise.shape]

    def _cut(
        self, exercise: Exercise, frame: tuple[int, ...], centre: Sequence[float]
    ) -> tuple[torch.Tensor, NDArray[np.int64], torch.Tensor | None]:
        cut = self._cut_3d if self.card.ndim == 3 else self._cut_2d
        return cut(exercise, frame, centre)

    def _cut_2d(
        self, exercise: Exercise, frame: tuple[int, ...], centre: Sequence[float]
    ) -> tuple[torch.Tensor, NDArray[np.int64], torch.Tensor | None]:
        size, augmentation = max(self.crop), self.augmentation
        reach = size / 2 * math.sqrt(2) / augmentation.zoom[0] * (1 + augmentation.stretch)
        reach += 3 * augmentation.elastic + 1
        start, stop = window(centre, [reach] * 2, exercise.shape)
        image = torch.from_numpy(exercise.image(frame, start, stop))
        labels = torch.from_numpy(exercise.labels(frame, start, stop))
        within, channels = (centre[0] - start[0], centre[1] - start[1]), len(image)
        if self._guessed:  # bent as the image is
            image = torch.cat([image, self._guess(exercise, frame, start, stop)])
        image, labels = random_crop(image, labels, within, size, augmentation, self.generator)
        guess = image[channels:] if self._guessed else None
        return self._vary(image[:channels]), labels.numpy(), guess

    def _guess(
        self, exercise: Exercise, frame: tuple[int, ...], start: list[int], stop: list[int]
    ) -> torch.Tensor:
        if exercise.guess is None:
            shape = [b - a for a, b in zip(start, stop, strict=True)]
            return torch.zeros(self._guessed, *shape)
        return torch.from_numpy(exercise.guess.block(frame, start, stop))

    def _vary(self, image: torch.Tensor) -> torch.Tensor:
        if self.card.normalisation.method == "percentile":
            image = change_appearance(image, self.augmentation, self.generator)
            return image.clamp(-0.5, 2.0)
        low, width = DEVIATIONS[0], DEVIATIONS[1] - DEVIATIONS[0]
        varied = change_appearance((image - low) / width, self.augmentation, self.generator)
        return varied * width + low

    def _cut_3d(
        self, exercise: Exercise, frame: tuple[int, ...], centre: Sequence[float]
    ) -> tuple[torch.Tensor, NDArray[np.int64], torch.Tensor | None]:
        start = [
            max(0, min(round(c - edge / 2), n - edge))
            for c, edge, n in zip(centre, self.crop, exercise.shape, strict=True)
        ]
        stop = [
            min(s + edge, n) for s, edge, n in zip(start, self.crop, exercise.shape, strict=True)
        ]
        image, labels = exercise.image(frame, start, stop), exercise.labels(frame, start, stop)
        channels = len(image)
        if self._guessed:  # turned as the image is
            guess = self._guess(exercise, frame, start, stop).numpy()
            image = np.concatenate([image, guess])
        pad = [(0, edge - n) for edge, n in zip(self.crop, labels.shape, strict=True)]
        image = np.pad(image, [(0, 0), *pad], mode="symmetric")
        labels = np.pad(labels, pad)  # beyond the image nothing is known
        for axis in range(3):
            if uniform(self.generator, 0, 1) < 0.5:
                image, labels = np.flip(image, axis + 1), np.flip(labels, axis)
        if self.crop[1] == self.crop[2] and uniform(self.generator, 0, 1) < 0.5:
            image, labels = image.swapaxes(2, 3), labels.swapaxes(1, 2)
        turned = torch.from_numpy(np.ascontiguousarray(image))
        varied = turned[:channels]
        gain = log_uniform(self.generator, self.augmentation.contrast)
        noise = torch.randn(varied.shape, generator=self.generator)
        strength = uniform(self.generator, 0, self.augmentation.noise)
        return (
            varied * gain + strength * noise,
            np.ascontiguousarray(labels, np.int64),
            turned[channels:] if self._guessed else None,
        )


def window(
    centre: Sequence[float], reach: Sequence[float], shape: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return first and last-but-one pixel of what is within reach, inside the image."""
    start = [max(0, math.floor(c - r)) for c, r in zip(centre, reach, strict=True)]
    stop = [min(n, math.ceil(c + r) + 1) for c, r, n in zip(centre, reach, shape, strict=True)]
    return start, stop


def _by_kind(exercise: Exercise) -> dict[int, list[NDArray[np.int64]]]:
    """Return rows of annotated pixels by class, of objects one group for each."""
    values = exercise.annotations.values
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=0))
    kinds: dict[int, list[NDArray[np.int64]]] = {}
    for rows in np.split(order, starts[1:]):
        value = int(values[rows[0]])
        kind = min(value, 2) if exercise.annotations.mode == "objects" else value
        kinds.setdefault(kind, []).append(rows)
    return kinds
