"""Where painting would teach a network most: unsure places, not yet annotated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from unet_studio.training.glimpse import View, look

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.exercises import Exercise

# Edge of the part that is suggested, in pixels: about what one paints at a time.
WINDOW = 64
_LOOKED_AT = 384  # edge of what is predicted at once
_DEPTH = 32  # planes of a stack that a 3D network looks at at once
_MOST_VIEWS = 12


@dataclass(frozen=True)
class Suggestion:
    """A place to paint.

    Attributes
    ----------
    exercise : int
        Number of the image.
    place : tuple of int
        Position along the axes of the annotations, [T] [Z] Y X.
    uncertainty : float
        Mean over the window, range [0, 1].
    """

    exercise: int
    place: tuple[int, ...]
    uncertainty: float


def suggest_place(
    network: nn.Module,
    exercises: Sequence[Exercise],
    card: ModelCard,
    seen: Sequence[Suggestion] = (),
    check: Callable[[], None] | None = None,
) -> Suggestion | None:
    """Return the most uncertain place that is neither annotated nor was suggested before.

    Uncertainty is the entropy of the mean over mirror images (uncertainty sampling,
    Lewis & Gale 1994, doi:10.1007/978-1-4471-2099-5_1), averaged over windows.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    exercises : sequence of Exercise
        Images with what is annotated so far. Of large ones an even choice of parts is
        looked at.
    card : ModelCard
    seen : sequence of Suggestion
        Earlier ones, which are passed over.
    check : callable, optional
        Called between passes; may raise to stop.

    Returns
    -------
    Suggestion or None
        None if every place that was looked at is annotated or was suggested.
    """
    views = [v for i, e in enumerate(exercises) for v in _views(e, i)]
    picked = np.linspace(0, len(views) - 1, min(len(views), _MOST_VIEWS)).round().astype(int)
    best: Suggestion | None = None
    for view in (views[i] for i in np.unique(picked)):
        exercise = exercises[view.exercise]
        glimpse = look(network, exercise, view, card, flips=True, check=check)
        score = _averaged(glimpse.uncertainty)
        score[_taken(exercise, view, seen)] = -1.0
        at = np.unravel_index(int(score.argmax()), score.shape)
        value = float(score[at])
        if value >= 0 and (best is None or value > best.uncertainty):
            place = tuple(int(a + b) for a, b in zip(at, view.start, strict=True))
            best = Suggestion(view.exercise, (*view.frame, *place), value)
    return best


def _views(exercise: Exercise, number: int) -> Iterator[View]:
    """Cut an image into parts that are predicted at once."""
    shape = exercise.shape
    edges = [_DEPTH] * (len(shape) - 2) + [_LOOKED_AT] * 2
    grid = [range(0, n, edge) for n, edge in zip(shape, edges, strict=True)]
    frames = np.ndindex(*exercise.annotations.shape[: -len(shape)])
    for frame in frames:
        for corner in np.array(np.meshgrid(*grid, indexing="ij")).reshape(len(shape), -1).T:
            stop = [min(int(c) + e, n) for c, e, n in zip(corner, edges, shape, strict=True)]
            yield View(number, tuple(frame), tuple(int(c) for c in corner), tuple(stop))


def _averaged(uncertainty: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average over windows in the plane."""
    size = (1,) * (uncertainty.ndim - 2) + (WINDOW,) * 2
    return np.asarray(ndimage.uniform_filter(uncertainty, size, mode="constant"))


def _taken(exercise: Exercise, view: View, seen: Sequence[Suggestion]) -> NDArray[np.bool_]:
    """Return what of a view is within half a window of an annotation or a suggestion."""
    start, stop = np.asarray(view.start), np.asarray(view.stop)
    reach = np.zeros(len(start), int)
    reach[-2:] = WINDOW // 2
    low = np.maximum(start - reach, 0)
    high = np.minimum(stop + reach, exercise.shape)
    known = exercise.labels(view.frame, low.tolist(), high.tolist()) > 0
    size = (1,) * (known.ndim - 2) + (WINDOW,) * 2
    near = ndimage.maximum_filter(known, size, mode="constant")
    taken = near[tuple(map(slice, start - low, stop - low))]
    for one in seen:
        place = np.asarray(one.place)
        here = one.exercise == view.exercise and tuple(place[: -len(start)]) == view.frame
        inner = place[-len(start) :]
        if here:
            first = np.maximum(inner - WINDOW * (reach > 0) - start, 0)
            last = np.maximum(inner + WINDOW * (reach > 0) + 1 - start, 0)
            taken[tuple(map(slice, first, last))] = True
    return np.asarray(taken)
