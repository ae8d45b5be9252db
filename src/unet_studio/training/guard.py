"""Old model against new, on annotations that were held back.

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

from unet_studio.training.regions import LEAST_HELD_BACK, Region

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.exercises import Exercise

Finding = Literal["better", "worse", "too little to judge"]
# A difference as large comes about by chance in fewer than 1 of 100 cases. Of 2 of 100, strokes of
# random classes now and then made it (measured in benchmarks/results/refine.md).
SIGNIFICANCE = 0.01
# Strokes of random classes are told apart as well in fewer than 1 of 10 cases.
_MEANINGLESS = 0.1
# Without an old model to keep to, the mean over classes must beat a guess by so much.
_ABOVE_GUESS = 0.05
# No class may pay for another's gain with more than this.
_LARGEST_FALL = 0.2
# People paint where the old model is wrong, so strokes alone favour any change: one that
# turned everything round would fit them all. What the old model was sure of where nobody
# painted, and what it found on the sample images, must stay to such a share. Of two random
# answers every other one agrees.
_LEAST_KEPT = 0.65
_LEAST_AGREEMENT = 0.7
_SURE = 0.8  # probability of its answer
_FEWEST_KEPT = 256  # pixels of a class that say something of it
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
    kept : float or None
        Share of what the old model was sure of where nothing was painted that the new one
        still says, of the class that lost most, range [0, 1].
    chance_apart : float or None
        Probability that strokes were told apart as well if their classes meant nothing.
    """

    finding: Finding
    reason: str
    old: float | None = None
    new: float | None = None
    regions: int = 0
    chance: float | None = None
    agreement: float | None = None
    kept: float | None = None
    chance_apart: float | None = None

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


@dataclass(frozen=True, eq=False)
class Look:
    """What a network says of held-back regions and their surroundings.

    Attributes
    ----------
    scores : array of float, axes (regions,)
        Share of each region's pixels that are right, range [0, 1].
    beliefs : array of float, axes (regions,)
        Mean probability of what was painted, range [0, 1].
    found : tuple of array of int, axes ([Z,] Y, X)
        What a user would paint, one per part of a frame that was looked at.
    sure : tuple of array of bool, same axes
        Where that is hardly in doubt.
    """

    scores: NDArray[np.float64]
    beliefs: NDArray[np.float64]
    found: tuple[NDArray[np.int64], ...]
    sure: tuple[NDArray[np.bool_], ...]


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
        return self.look(network, check).scores

    def look(self, network: nn.Module, check: Callable[[], None] | None = None) -> Look:
        """Return what a network says of the regions, and of what is around them."""
        scores, beliefs = np.zeros(len(self.regions)), np.zeros(len(self.regions))
        every_found, every_sure = [], []
        for view in self._views:
            if check is not None:
                check()
            probabilities = _probabilities(self._logits(network, view), self.card)
            found = probabilities.argmax(0) + 1
            for member in view.members:
                region = self.regions[member]
                at = tuple((region.places - np.asarray(view.start)).T)
                scores[member] = (found[at] == region.kind).mean()
                beliefs[member] = probabilities[(region.kind - 1, *at)].mean()
            inside = tuple(slice(b - a) for a, b in zip(view.start, view.stop, strict=True))
            every_found.append(found[inside])
            every_sure.append((probabilities.max(0) >= _SURE)[inside])
        return Look(scores, beliefs, tuple(every_found), tuple(every_sure))

    def kept(self, old: Look, new: Look) -> float | None:
        """Return how much of what the old network was sure of the new one still says.

        Only where nothing was painted, around held-back regions; of the class that lost
        most, so that a small one counts as much as the background.

        Returns
        -------
        float or None
            Range [0, 1]; None if the old one was sure of nothing there.
        """
        counts: dict[int, NDArray[np.float64]] = {}
        for view, before, sure, after in zip(
            self._views, old.found, old.sure, new.found, strict=True
        ):
            exercise = self._exercises[view.exercise]
            picked = sure & (exercise.labels(view.frame, view.start, view.stop) == 0)
            for kind in np.unique(before[picked]).tolist():
                own = picked & (before == kind)
                counted = np.array([float((after[own] == kind).sum()), float(own.sum())])
                counts[kind] = counts.get(kind, np.zeros(2)) + counted
        shares = [same / every for same, every in counts.values() if every >= _FEWEST_KEPT]
        return float(min(shares)) if shares else None

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


def _probabilities(logits: NDArray[np.float32], card: ModelCard) -> NDArray[np.float32]:
    """Return how likely each class that a user may paint is, axes (classes, [Z,] Y, X)."""
    if card.representation == "classes":
        powers = np.exp(logits - logits.max(0))
        return np.asarray(powers / powers.sum(0))
    foreground = 1 / (1 + np.exp(-np.clip(logits[0], -30, 30)))
    return np.stack([1 - foreground, foreground])  # background first, as it is painted


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
    kept: float | None = None,
    gains: NDArray[np.float64] | None = None,
    chance_apart: float | None = None,
) -> Verdict:
    """Compare two models by their scores on the same regions.

    There is no absolute score to reach where an old model is kept to: held-back strokes
    lie on its errors, so that half of them right may be a large gain on 0.

    Parameters
    ----------
    old, new : array of float, axes (regions,), range [0, 1]
    kinds : array of int, axes (regions,)
        Class of each region.
    agreement : float, optional
        On the sample images.
    kept : float, optional
        As of :meth:`Judge.kept`; None if the old model knew nothing of what is wanted.
    gains : array of float, axes (regions,), range [-1, 1], optional
        New less old probability of what was painted, by which chance is judged: it tells
        small gains from none sooner than answers do. Strokes of random classes turn the
        sign of each at random, as the test supposes. Without it, of the scores.
    chance_apart : float, optional
        Of strokes that a model learned from which knew nothing before: how likely they were told
        apart as well if their classes meant nothing
        (:func:`~unet_studio.training.consistency.chance_of_telling_apart`).
    """
    count, painted = len(new), np.unique(kinds)
    if count < LEAST_HELD_BACK or len(painted) < 2:
        return Verdict(
            "too little to judge",
            "No validation: too few annotations lie far enough from the others to be held back. "
            "Paint in more places, or in other images or planes.",
            regions=0,
            agreement=agreement,
            kept=kept,
            chance_apart=chance_apart,
        )
    before, after = (np.array([s[kinds == k].mean() for k in painted]) for s in (old, new))
    chance = sign_test(new - old if gains is None else gains)
    finding, why = _finding(before, after, chance, agreement, kept)
    if finding == "better" and chance_apart is not None and chance_apart > _MEANINGLESS:
        finding = "too little to judge"
        why = "Strokes of different classes look too much alike, so the gain may be chance"
    shown = (
        f"{100 * before.mean():.0f} % of the held-back annotation was right before, "
        f"{100 * after.mean():.0f} % now"
    )
    return Verdict(
        finding, f"{why}: {shown} ({count} regions).", float(before.mean()), float(after.mean()),
        count, chance, agreement, kept, chance_apart,
    )  # fmt: skip


def _finding(
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    chance: float,
    agreement: float | None,
    kept: float | None,
) -> tuple[Finding, str]:
    """Return the finding and its reason, from scores per class."""
    guess = 1 / len(after)
    if after.mean() <= before.mean():
        return "worse", "The new model is no better on what was held back"
    # Who knows nothing has one class all right, by finding it everywhere: no loss to compare with.
    from_where = np.full_like(before, guess) if kept is None else before
    if (from_where - after).max() > _LARGEST_FALL:
        return "worse", "The new model finds one class better and another one worse"
    if kept is None and after.mean() < guess + _ABOVE_GUESS:
        return "worse", "The new model does not fit what was painted"
    if kept is not None and kept < _LEAST_KEPT:
        return "worse", (
            "The new model is better where you painted, but elsewhere in your images it keeps "
            f"only {100 * kept:.0f} % of what the old one was sure of"
        )
    if chance > SIGNIFICANCE:
        return "too little to judge", "The gain may be chance"
    if agreement is not None and agreement < _LEAST_AGREEMENT:
        return "too little to judge", (
            "The new model is better where you painted, but on the sample images it agrees with "
            f"the old one by only {100 * agreement:.0f} %, so it may be worse elsewhere"
        )
    return "better", "The new model is better on what was held back"
