"""Old model against new, on annotations that neither has seen.

The unit is a region (a stroke, or a cell of dense annotations), not a pixel: pixels
of one stroke agree with each other whatever the model, and would prove anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unet_studio.training.annotations import BACKGROUND
from unet_studio.training.regions import LEAST_HELD_BACK, Region

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.exercises import Exercise

Finding = Literal["better", "worse", "too little to judge"]
# A difference as large comes about by chance in fewer than 2 of 100 cases.
SIGNIFICANCE = 0.02
# Random classes are guessed right half of the time, and in every other region by luck.
_LEAST_SCORE = 0.6
# People paint where the old model is wrong, so strokes alone favour any change. A model
# that no longer finds what it found elsewhere has probably changed too much.
_LEAST_AGREEMENT = 0.7
_EXACT_UP_TO = 14  # regions whose signs are all tried
_SHUFFLES = 20_000
_MOST_JUDGED = 48
_LARGEST_VIEW = 1 << 20  # pixels in one pass


@dataclass(frozen=True)
class Verdict:
    """What held-back annotations say of a new model.

    Attributes
    ----------
    finding : {"better", "worse", "too little to judge"}
    reason : str
        In words, with numbers.
    old, new : float or None
        Share of the held-back annotation that is right, every class counting the
        same, range [0, 1]; None if nothing was held back.
    regions : int
        How many were judged on.
    chance : float or None
        Probability of such a gain if there was none.
    agreement : float or None
        How far new and old agree on the bundled sample images, range [0, 1].
    """

    finding: Finding
    reason: str
    old: float | None = None
    new: float | None = None
    regions: int = 0
    chance: float | None = None
    agreement: float | None = None

    @property
    def adopted(self) -> bool:
        """Whether the new model may take the old one's place without asking."""
        return self.finding == "better"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _View:
    """What is looked at in one forward pass: part of a frame, and regions in it."""

    exercise: int
    frame: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]
    members: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(b - a for a, b in zip(self.start, self.stop, strict=True))

    def joined(self, other: _View) -> _View:
        return _View(
            self.exercise,
            self.frame,
            tuple(map(min, self.start, other.start)),
            tuple(map(max, self.stop, other.stop)),
            (*self.members, *other.members),
        )


class Judge:
    """Scores networks on held-back regions, with all of their receptive field around.

    Parameters
    ----------
    exercises : sequence of Exercise
    regions : sequence of Region
        An even choice of them is used if they are many.
    card : ModelCard
    device : torch.device
    halos : sequence of int
        Context around each region, [Z] Y X, in pixels.
    most : int
        Regions that are looked at.
    """

    def __init__(
        self,
        exercises: Sequence[Exercise],
        regions: Sequence[Region],
        card: ModelCard,
        device: torch.device,
        halos: Sequence[int],
        most: int = _MOST_JUDGED,
    ) -> None:
        picked = np.linspace(0, len(regions) - 1, min(most, len(regions))).astype(int)
        self.regions = [regions[i] for i in picked]
        self.card, self.device, self.halos = card, device, tuple(halos)
        self._exercises = exercises
        self._views = _joined([self._view(i, r) for i, r in enumerate(self.regions)])

    @property
    def kinds(self) -> NDArray[np.int64]:
        """Class of each region."""
        return np.array([r.kind for r in self.regions], np.int64)

    def scores(
        self, network: nn.Module, check: Callable[[], None] | None = None
    ) -> NDArray[np.float64]:
        """Return the share of each region's pixels that are right, axes (regions,)."""
        found = np.zeros(len(self.regions))
        for view in self._views:
            if check is not None:
                check()
            logits = self._logits(network, view)
            for member in view.members:
                region = self.regions[member]
                at = tuple((region.places - np.asarray(view.start)).T)
                painted = _painted_as(logits[(slice(None), *at)], self.card)
                found[member] = (painted == region.kind).mean()
        return found

    def balanced(self, scores: NDArray[np.float64]) -> float:
        """Return the mean over classes of the mean over their regions."""
        kinds = self.kinds
        return float(np.mean([scores[kinds == k].mean() for k in np.unique(kinds)]))

    def _view(self, index: int, region: Region) -> _View:
        start, stop = [], []
        axes = zip(
            region.low.tolist(), region.high.tolist(), self.halos, self.card.strides,
            self._exercises[region.exercise].shape, strict=True,
        )  # fmt: skip
        for low, high, halo, stride, length in axes:
            # Whole blocks of the poolings, as tiles of a prediction are.
            start.append(max(0, (low - halo) // stride * stride))
            stop.append(min(length, (high // stride + 1) * stride + halo))
        return _View(region.exercise, region.frame, tuple(start), tuple(stop), (index,))

    def _logits(self, network: nn.Module, view: _View) -> NDArray[np.float32]:
        axes = zip(view.start, view.stop, self.card.strides, strict=True)
        pad = [(0, 0), *((0, -(last - first) % stride) for first, last, stride in axes)]
        block = self._exercises[view.exercise].image(view.frame, view.start, view.stop)
        with torch.no_grad():
            image = torch.from_numpy(np.pad(block, pad, mode="symmetric"))[None].to(self.device)
            logits = network(image)[0].float().cpu().numpy()
        return np.asarray(logits, np.float32)


def _joined(views: list[_View]) -> list[_View]:
    """Join views of one frame where one pass costs no more than two."""
    done: list[_View] = []
    for view in views:
        for i, other in enumerate(done):
            if (view.exercise, view.frame) != (other.exercise, other.frame):
                continue
            both = other.joined(view)
            if both.size <= min(other.size + view.size, _LARGEST_VIEW):
                done[i] = both
                break
        else:
            done.append(view)
    return done


def _painted_as(logits: NDArray[np.float32], card: ModelCard) -> NDArray[np.int64]:
    """Return what a user would paint for these logits, axes (C, pixels)."""
    if card.representation == "classes":
        return np.asarray(logits.argmax(0) + 1)
    return np.where(logits[0] > 0, 2, BACKGROUND)


def sign_test(differences: NDArray[np.float64]) -> float:
    """Return how likely a mean as large would be if gains and losses were alike.

    The sign-flip permutation test (Fisher 1935, The Design of Experiments, §21): all
    signs for few regions, a fixed sample of them for many.

    Parameters
    ----------
    differences : array of float, axes (regions,)
    """
    count = len(differences)
    if count <= _EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=count)))
    else:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), (_SHUFFLES, count))
    return float(np.mean(signs @ differences >= differences.sum() - 1e-12))


def judge(
    old: NDArray[np.float64],
    new: NDArray[np.float64],
    kinds: NDArray[np.integer[Any]],
    agreement: float | None = None,
) -> Verdict:
    """Compare two models by their scores on the same regions.

    Parameters
    ----------
    old, new : array of float, axes (regions,), range [0, 1]
    kinds : array of int, axes (regions,)
        Class of each region.
    agreement : float, optional
        On the sample images, for the verdict.
    """
    count = len(new)
    if count < LEAST_HELD_BACK or len(np.unique(kinds)) < 2:
        return Verdict(
            "too little to judge",
            "No validation: too few annotations lie far enough from the others to be held back. "
            "Paint in more places, or in other images or planes.",
            regions=0,
            agreement=agreement,
        )
    before, after = (
        float(np.mean([s[kinds == k].mean() for k in np.unique(kinds)])) for s in (old, new)
    )
    chance = sign_test(new - old)
    shown = (
        f"{100 * before:.0f} % of the held-back annotation was right before, {100 * after:.0f} % "
        "now"
    )
    finding: Finding
    if after <= before:
        finding, why = "worse", "The new model is no better on what it has not seen"
    elif after < _LEAST_SCORE:
        finding, why = "worse", "The new model does not fit what was painted"
    elif chance > SIGNIFICANCE:
        finding, why = "too little to judge", "The gain may be chance"
    elif agreement is not None and agreement < _LEAST_AGREEMENT:
        finding = "too little to judge"
        why = (
            "The new model is better where you painted, but on the sample images it agrees with "
            f"the old one by only {100 * agreement:.0f} %, so it may be worse elsewhere"
        )
    else:
        finding, why = "better", "The new model is better on what it has not seen"
    return Verdict(
        finding, f"{why}: {shown} ({count} regions).", before, after, count, chance, agreement
    )
