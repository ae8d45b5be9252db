"""What somebody who corrects a model's result has accepted of it.

Who paints on the errors of a result says something of the rest, too: that it is right, or at
least better than what was painted on. A model that starts anew from its base with all strokes
has not heard that. So it is taught what the corrected model finds where nobody painted, but for
what strokes contradict: one model distilled into another (Hinton et al. 2015,
arXiv:1503.02531), with corrections. Each round of strokes begins where the one before ended then
(measured in benchmarks/results/refine.md).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.training.glimpse import View, class_probabilities
from unet_studio.training.mixed_precision import is_quicker_in_bfloat16
from unet_studio.training.rehearsal import frozen_copy
from unet_studio.training.surroundings import Guess, Window, affordable, guess_of

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.models.card import ModelCard
    from unet_studio.models.model import Model
    from unet_studio.training.annotations import Annotations
    from unet_studio.training.exercises import Exercise
    from unet_studio.training.regions import Region

# An error is larger than the stroke on it: so far around, in pixels, nothing is taken for right;
# planes of a volume lie four times as far apart.
_DOUBTED = 16
_SPACING = {2: (1.0, 1.0), 3: (4.0, 1.0, 1.0)}
# From here on a guess is believed where there is nothing else to go by.
_BELIEVED = 0.5
# Pieces that a network looks at in one go, and what it sees around them, in pixels.
_PIECE, _CONTEXT = {2: 512, 3: 64}, {2: 32, 3: 16}


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model finds around strokes.

    Attributes
    ----------
    parts : tuple of (int, Window, array of float16, axes (K, [Z,] Y, X))
        Number of the image, place, and probabilities of the classes, background first.
    doubts : dict
        What strokes last said of each part: what was painted, and where the answer is wrong.
    """

    parts: tuple[tuple[int, Window, NDArray[np.float16]], ...]
    doubts: dict[int, tuple[NDArray[np.int64], NDArray[np.bool_]]] = field(default_factory=dict)

    def doubted(self, part: int, annotations: Annotations) -> NDArray[np.bool_]:
        """Return where strokes say that a part is wrong, axes ([Z,] Y, X)."""
        _, window, probabilities = self.parts[part]
        painted = _painted(window, annotations)
        places = np.flatnonzero(painted >= 0)
        strokes = np.stack([places, painted.ravel()[places]])
        if part not in self.doubts or not np.array_equal(self.doubts[part][0], strokes):
            self.doubts[part] = strokes, _contradicted(probabilities.argmax(0), painted)
        return self.doubts[part][1]


def same_kind(one: ModelCard, other: ModelCard) -> bool:
    """Whether two models see the same, and mean the same by what they say."""
    fields = ("representation", "classes", "in_channels", "out_channels", "ndim", "colour",
              "normalisation", "output", "preparation")  # fmt: skip
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def ask(
    model: Model,
    exercises: Sequence[Exercise],
    device: torch.device,
    seed: int = 0,
    seconds: float = math.inf,
    check: Callable[[], None] | None = None,
) -> Answers:
    """Let a model say what it finds around all strokes.

    Parameters
    ----------
    model : Model
        Of the same kind as the one that the exercises were opened for (:func:`same_kind`).
    exercises : sequence of Exercise
        With everything that was painted.
    device : torch.device
    seed : int
        Fixes which surroundings are looked at first.
    seconds : float
        No further ones are looked at after so long.
    check : callable, optional
        Called between pieces; may raise to stop.
    """
    network, card = frozen_copy(model.network, device), model.card
    parts: list[tuple[int, Window, NDArray[np.float16]]] = []
    windows = affordable(exercises, lambda _: 1, seed)
    began = time.perf_counter()
    for index in np.random.default_rng(seed).permutation(len(windows)).tolist():
        if parts and time.perf_counter() - began > seconds:
            break
        number, window = windows[index]
        found = _look(network, number, exercises[number], window, card, check)
        parts.append((number, window, found))
    return Answers(tuple(parts))


def _look(
    network: nn.Module, number: int, exercise: Exercise, window: Window, card: ModelCard,
    check: Callable[[], None] | None,
) -> NDArray[np.float16]:  # fmt: skip
    """Return what a network finds in a window, axes (K, [Z,] Y, X)."""
    count = card.out_channels if card.representation == "classes" else 2
    found = np.empty((count, *window.shape), np.float16)
    half_wide = is_quicker_in_bfloat16(device := next(network.parameters()).device)
    for start, stop in _pieces(window, card.ndim):
        view = View(number, window.frame, start, stop)
        inside = tuple(
            slice(a - o, b - o) for a, b, o in zip(start, stop, window.start, strict=True)
        )
        with torch.autocast(device.type, torch.bfloat16, enabled=half_wide):
            found[(slice(None), *inside)] = class_probabilities(
                network, exercise, view, card, context=_CONTEXT[card.ndim], check=check
            )
    return found


def _pieces(window: Window, ndim: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    edge = _PIECE[ndim]
    corners = [range(a, b, edge) for a, b in zip(window.start, window.stop, strict=True)]
    for start in product(*corners):
        yield start, tuple(min(a + edge, b) for a, b in zip(start, window.stop, strict=True))


def accepted(
    answers: Answers,
    exercises: Sequence[Exercise],
    held_back: Sequence[Region] = (),
    reach: Sequence[int] = (),
) -> list[Guess | None]:
    """Return what of a model's answers may be taught to another.

    Parameters
    ----------
    answers : Answers
    exercises : sequence of Exercise
        With what contradicts answers.
    held_back : sequence of Region
        What is going to be judged. The one who answers may have learned from it, so nothing is
        taken from around it.
    reach : sequence of int
        How far around, [Z] Y X: what a pixel's result depends on.

    Returns
    -------
    list of Guess or None
        One per image. Nothing is said near strokes that contradict the answer, nor in a whole
        thing on which there are only such strokes.
    """
    found: list[list[tuple[Window, NDArray[np.float16]]]] = [[] for _ in exercises]
    for part, (number, window, probabilities) in enumerate(answers.parts):
        taught = probabilities.copy()
        taught[:, answers.doubted(part, exercises[number].annotations)] = 0
        for region in held_back:
            if (region.exercise, region.frame) == (number, window.frame):
                taught[(slice(None), *_around(region, reach, window))] = 0
        found[number].append((window, taught))
    count = max((len(p) for _, _, p in answers.parts), default=0)
    return [guess_of(own, count) for own in found]


def blended(
    guesses: Sequence[Guess | None], answers: Sequence[Guess | None], heed: float
) -> tuple[list[Guess | None], float]:
    """Return what to learn where a guess and a former result differ, and the guess's share of it.

    A first result may be wrong nearly everywhere, and who corrects it with ten strokes has not
    accepted that. So a guess from all strokes is believed as far as it is sure and the result
    says something else; of what both find, the result, which knows shapes, is better.

    Parameters
    ----------
    guesses, answers : sequence of Guess or None
        Of the same images: by strokes (:mod:`~unet_studio.training.first_guess`), and of
        :func:`accepted`.
    heed : float
        How far guesses are believed, range [0, 1].

    Returns
    -------
    list of Guess or None
        The share of the guess, and for the rest the answer. Where there is no answer, the guess,
        if that is believed.
    float
        The guess's share, range [0, 1].
    """
    if not any(guesses):
        return list(answers), 0.0
    share = heed * (1 - _agreement(guesses, answers))
    believed = heed > _BELIEVED or not any(answers)
    return [_blend(g, a, share, believed) for g, a in zip(guesses, answers, strict=True)], share


def _blend(
    guess: Guess | None, answer: Guess | None, share: float, believed: bool
) -> Guess | None:
    """Return a share of a guess and the rest of an answer; the guess alone only if believed."""
    if guess is None:
        return answer
    blends = []
    for window, by_strokes, found in _beside(guess, answer):
        there = found.any(0)
        alone = by_strokes if believed else np.zeros_like(by_strokes)
        blend = np.where(there, share * by_strokes + (1 - share) * found, alone)
        blends.append((window, blend.astype(np.float16)))
    return guess_of(blends, guess.count)


def _beside(
    guess: Guess, answer: Guess | None
) -> Iterator[tuple[Window, NDArray[np.float16], NDArray[np.float32]]]:
    """Yield each window of a guess, what is guessed of it, and the answer: 0 where none is."""
    for window, plane in guess.windows:
        found = np.zeros(plane.shape, np.float32)
        if answer is not None:
            found = answer.block(window.frame, window.start, window.stop)
        yield window, plane, found


def _agreement(guesses: Sequence[Guess | None], answers: Sequence[Guess | None]) -> float:
    """Return the Dice coefficient of what is not background, where both say something.

    A pixel is common to both if they say the same of it. Range [0, 1]; 0 where nothing can be
    compared, 1 if neither finds anything.
    """
    common = total = compared = 0
    for guess, answer in zip(guesses, answers, strict=True):
        for _, by_strokes, found in _beside(guess, answer) if guess else ():
            there = found.any(0)
            one, other = (p.argmax(0)[there] for p in (by_strokes, found))
            common += int(((one == other) & (one > 0)).sum())
            total += int((one > 0).sum() + (other > 0).sum())
            compared += len(one)
    if not compared:
        return 0.0
    return 2 * common / total if total else 1.0


def _around(region: Region, reach: Sequence[int], window: Window) -> tuple[slice, ...]:
    """Return what of a window is within reach of a region."""
    origin = np.asarray(window.start)
    low = np.maximum(region.low - reach - origin, 0)
    high = np.maximum(region.high + reach + 1 - origin, 0)
    return tuple(slice(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True))


def _contradicted(said: NDArray[np.integer], painted: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where strokes say that an answer is wrong, axes ([Z,] Y, X).

    Parameters
    ----------
    said : array of int, axes ([Z,] Y, X)
        The likeliest class, background 0.
    painted : array of int, same axes
        The class that was painted, -1 where nothing was.
    """
    known = painted >= 0
    wrong = known & (painted != said)
    doubted = np.zeros(said.shape, bool)
    for kind in np.unique(said[wrong]).tolist():
        if kind:  # the background is one thing all over
            things, _ = ndimage.label(said == kind)
            agreed = np.append(things[known & ~wrong], 0)
            doubted |= np.isin(things, np.setdiff1d(things[wrong], agreed))
    if wrong.any():
        doubted |= ndimage.distance_transform_edt(~wrong, _SPACING[wrong.ndim]) <= _DOUBTED
    return doubted


def _painted(window: Window, annotations: Annotations) -> NDArray[np.int64]:
    """Return the classes that were painted in a window, background 0, -1 where nothing was."""
    first, last = (*window.frame, *window.start), (*(i + 1 for i in window.frame), *window.stop)
    block = annotations.block(first, last).reshape(window.shape)
    most = 2 if annotations.mode == "objects" else np.iinfo(np.int32).max
    return np.minimum(block, most, dtype=np.int64) - 1
