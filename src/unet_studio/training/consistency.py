"""Whether what was painted in different classes looks different at all.

Strokes of random classes can not be told apart by strokes that one has not learned from, and
nothing that is learned from them is worth keeping, whatever a few held-back ones happen to say.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unet_studio.training.regression import fit_regression

_FOLDS = 5
_SHUFFLES = 10_000


def chance_of_telling_apart(
    features: NDArray[np.float32],
    classes: NDArray[np.integer],
    regions: NDArray[np.integer],
    count: int,
    seed: int = 0,
    check: Callable[[], None] | None = None,
) -> float:
    """Return how likely regions were told apart as well if their classes meant nothing.

    Each region's class is asked of a regression on the others, a fifth of them left out at a
    time. A permutation test (Fisher 1935, The Design of Experiments) then compares the number of
    right answers with what it is when the classes are dealt out anew; the regressions are not
    fitted anew for each, so it is approximate, and so it is where regions are pieces of one.

    Parameters
    ----------
    features : array of float32, axes (pixels, features)
    classes : array of int, axes (pixels,), 0 to ``count - 1``
        The same for all pixels of a region.
    regions : array of int, axes (pixels,)
        Which region each pixel is of.
    count : int
        Number of classes.
    seed : int
    check : callable, optional
        Called between regressions; may raise to stop.

    Returns
    -------
    float
        In (0, 1].
    """
    names, first, index = np.unique(regions, return_index=True, return_inverse=True)
    truth = classes[first]
    rng = np.random.default_rng(seed)
    fold = np.empty(len(names), np.int64)
    fold[rng.permutation(len(names))] = np.arange(len(names)) % _FOLDS
    answers = np.full(len(names), -1)
    for left_out in range(_FOLDS):
        if check is not None:
            check()
        asked = fold[index] == left_out
        if not asked.any() or len(np.unique(classes[~asked])) < 2:
            continue
        regression = fit_regression(features[~asked], classes[~asked], count)
        votes = np.zeros((len(names), count))
        np.add.at(votes, index[asked], regression.probabilities(features[asked]))
        mine = fold == left_out
        answers[mine] = votes[mine].argmax(1)
    dealt = rng.permuted(np.broadcast_to(truth, (_SHUFFLES, len(truth))), axis=1)
    as_good = ((dealt == answers).sum(1) >= (truth == answers).sum()).sum()
    return float((1 + as_good) / (1 + _SHUFFLES))
