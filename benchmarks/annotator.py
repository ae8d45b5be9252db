"""A simulated annotator: short strokes in the middle of the largest errors, as a person would."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

STROKES = 10  # per round, at most
LENGTH = 20  # of a stroke, in pixels, at most


class Annotator:
    """Paints on a set of planes, knowing the truth.

    Parameters
    ----------
    truths : sequence of array of bool, axes (Y, X)
        Where the thing to be found is.
    seed : int
    poison : bool
        Give every stroke a random class.
    """

    def __init__(
        self, truths: Sequence[NDArray[np.bool_]], seed: int = 0, poison: bool = False
    ) -> None:
        self.truths = list(truths)
        self.painted = [np.zeros(t.shape, np.uint8) for t in truths]
        self.generator, self.poison = np.random.default_rng(seed), poison

    def paint(self, found: Sequence[NDArray[np.bool_]]) -> int:
        """Paint one round; return the number of strokes.

        Parameters
        ----------
        found : sequence of array of bool
            What the model finds, one per plane.
        """
        errors = []
        for plane, (truth, mask) in enumerate(zip(self.truths, found, strict=True)):
            for kind in (False, True):
                labels, count = ndimage.label((truth == kind) & (mask != kind))
                sizes = np.bincount(labels.ravel())[1:]
                for index in np.argsort(-sizes)[:4]:
                    if count and sizes[index] >= 9:
                        errors.append((int(sizes[index]), plane, kind, labels == index + 1))
        errors.sort(key=lambda e: -e[0])
        chosen = errors[:STROKES]
        if not self._has_both(chosen):  # somebody who begins shows both
            half, chosen = STROKES // 2, []
            for kind in (False, True):
                own = [e for e in errors if e[2] == kind][:half]
                chosen += own or self._examples(kind, half)
        for _, plane, kind, where in chosen:
            self._stroke(plane, kind, where)
        return len(chosen)

    def _has_both(self, chosen: list) -> bool:
        painted = {int(v) for p in self.painted for v in np.unique(p)} - {0}
        return painted | {1 + e[2] for e in chosen} == {1, 2}

    def _examples(self, kind: bool, count: int) -> list:
        planes = [i for i, t in enumerate(self.truths) if (t == kind).any()]
        picked = [planes[i % len(planes)] for i in range(count)]
        return [(0, plane, kind, self.truths[plane] == kind) for plane in picked]

    def _stroke(self, plane: int, kind: bool, where: NDArray[np.bool_]) -> None:
        truth = self.truths[plane] == kind
        depth = ndimage.distance_transform_edt(where & (self.painted[plane] == 0))
        # Anywhere near the middle: two strokes in one large region are not the same.
        places = np.argwhere(depth >= 0.7 * depth.max())
        y, x = places[self.generator.integers(len(places))]
        width = int(self.generator.integers(3, 6))
        best: list[tuple[int, int]] = []
        for angle in np.arange(0, np.pi, np.pi / 8):
            line = self._along(truth, y, x, np.sin(angle), np.cos(angle))
            best = max(best, line, key=len)
        stroke = np.zeros(truth.shape, bool)
        stroke[tuple(np.array(best).T)] = True
        disk = np.hypot(*np.ogrid[-3:4, -3:4]) <= width / 2
        stroke = ndimage.binary_dilation(stroke, disk) & truth
        value = self.generator.integers(1, 3) if self.poison else 1 + kind
        self.painted[plane][stroke] = value

    @staticmethod
    def _along(
        truth: NDArray[np.bool_], y: int, x: int, dy: float, dx: float
    ) -> list[tuple[int, int]]:
        line = [(int(y), int(x))]
        for sign in (1, -1):
            for step in range(1, LENGTH // 2):
                at = round(y + sign * step * dy), round(x + sign * step * dx)
                inside = 0 <= at[0] < truth.shape[0] and 0 <= at[1] < truth.shape[1]
                if not inside or not truth[at]:
                    break
                line.append(at)
        return line
