"""What is kept of a training: weights on the way from the old model to what was learned.

Of two networks of which one was trained on from the other, those between them err less than
either where nothing was learned, and nearly as little as the second where something was
(Wortsman et al. 2022, Robust fine-tuning of zero-shot models, arXiv 2109.01903).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

Weights = dict[str, torch.Tensor]
# Shares of the way that are tried, and what the paper advises where nothing says which.
SHARES = (0.25, 0.5, 0.75, 1.0)
HALF = 0.5
WHOLE = (1.0,)
# Without strokes to choose by: as far as this much of what the old model was sure of stays,
# around strokes, where nothing was painted. A training from strokes that have little to teach
# it takes more than that (measured in benchmarks/results/refine.md).
LEAST_KEPT = 0.95


def on_the_cpu(weights: Mapping[str, torch.Tensor]) -> Weights:
    """Return copies in the memory of the CPU."""
    return {n: v.detach().to("cpu", copy=True).contiguous() for n, v in weights.items()}


def between(
    old: Mapping[str, torch.Tensor], new: Mapping[str, torch.Tensor], share: float
) -> Weights:
    """Return the weights at a share of the way from the old to the new ones.

    Parameters
    ----------
    old, new : mapping of str to tensor
        Of the same network, on the same device, statistics of batch normalisation included.
    share : float
        0 is the old ones, bit for bit, 1 the new ones; counters are the new ones' otherwise.
    """
    if share in (0.0, 1.0):  # x + 1 * (y - x) is not always y
        return {n: v.detach().clone() for n, v in (new if share else old).items()}
    return {
        n: torch.lerp(v, new[n], share) if v.is_floating_point() else new[n].clone()
        for n, v in ((n, v.detach()) for n, v in old.items())
    }


@dataclass(frozen=True)
class _Choice:
    score: float
    share: float
    weights: Weights


class Keeper:
    """Decides which weights of a training are kept.

    Only a score of regions on which nothing is judged afterwards may choose: the best of
    several by a score has a better score than it deserves.

    Parameters
    ----------
    network : torch.nn.Module
        As it is before training, on the device of the training.
    score : callable or None
        Scores a network on held-back regions, range [0, 1].
    chooses : bool
        Whether that score may choose. If not it is only told, and the last weights are those
        to go to.
    keeps : callable or None
        Returns the share of what the old network was sure of that another still says, range
        [0, 1], or None if there is no such thing. How far to go is chosen by it where no
        score may.
    known : bool
        Whether the network is one to keep to: then it is gone but a share of the way.
    share : float or None
        Of the way, range [0, 1]; None leaves it to the score, or is half.
    patience : int
        Evaluations without a better score after which training should end.
    """

    def __init__(
        self,
        network: nn.Module,
        score: Callable[[nn.Module], float] | None,
        *,
        chooses: bool,
        keeps: Callable[[nn.Module], float | None] | None = None,
        known: bool,
        share: float | None,
        patience: int,
    ) -> None:
        self._old = {n: v.detach().clone() for n, v in network.state_dict().items()}
        self._probe = copy.deepcopy(network).requires_grad_(False)
        self._score, self._chooses, self._patience = score, chooses and score is not None, patience
        self._shares = ((share,) if share is not None else SHARES) if known else WHOLE
        self._keeps = keeps if len(self._shares) > 1 and not self._chooses else None
        self._usual = HALF if HALF in self._shares else self._shares[0]
        self._best: _Choice | None = None
        self._worse = 0

    @property
    def tired(self) -> bool:
        """Whether the score has not risen for so long that training should end."""
        return self._worse >= self._patience

    @property
    def share(self) -> float:
        """Share of the way that is gone by the weights to keep."""
        return self._best.share if self._best else self._usual

    def shown(self, average: nn.Module, share: float | None = None) -> nn.Module:
        """Return a network part of the way to what was learned; the same object each time.

        Parameters
        ----------
        average : torch.nn.Module
            What was learned so far.
        share : float, optional
            Of the way; that of the best so far, or else half, by default.
        """
        share = self.share if share is None else share
        self._probe.load_state_dict(between(self._old, average.state_dict(), share))
        return self._probe

    def look(self, average: nn.Module) -> float | None:
        """Score what was learned so far, and remember the best if scores may choose."""
        if self._score is None:
            return None
        if not self._chooses:
            return self._score(self.shown(average))
        scores = [(self._score(self.shown(average, s)), s) for s in self._shares]
        score, share = max(scores, key=lambda one: (one[0], -one[1]))
        if self._best is None or score >= self._best.score:  # as good, but longer trained
            weights = between(self._old, average.state_dict(), share)
            self._best, self._worse = _Choice(score, share, on_the_cpu(weights)), 0
        else:
            self._worse += 1
        return score

    def _look_back(self, average: nn.Module) -> None:
        """Go as far as enough stays of what was known."""
        if self._keeps is None:
            return
        for share in reversed(self._shares):
            kept = self._keeps(self.shown(average, share))
            self._usual = HALF if kept is None else share
            if kept is None or kept >= LEAST_KEPT:
                return

    def kept(self, average: nn.Module) -> Weights:
        """Return the weights to keep, on the CPU."""
        if self._best is not None:
            return self._best.weights
        self._look_back(average)
        return on_the_cpu(between(self._old, average.state_dict(), self._usual))
