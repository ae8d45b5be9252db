"""A small forest of extremely randomised trees, grown in a second from a few strokes.

Geurts, Ernst & Wehenkel 2006, Machine Learning 63:3 (doi:10.1007/s10994-006-6226-1):
at each node a few features are drawn, for each a random threshold, and the best of
these splits by Gini impurity is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TREES = 32
_DEPTH = 10
_LEAF = 3  # pixels of one stroke say much the same
# Each tree sees so much of the pixels: trees that differ make a smoother vote.
_SEEN = 0.5
_MOST_SEEN = 1500


@dataclass(frozen=True, eq=False)
class _Tree:
    """Nodes as arrays; a leaf has itself for its children."""

    feature: NDArray[np.int32]
    threshold: NDArray[np.float32]
    children: NDArray[np.int32]  # (nodes, 2): not above, above
    votes: NDArray[np.float32]  # (nodes, classes)
    depth: int


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees that vote.

    Attributes
    ----------
    trees : tuple
    """

    trees: tuple[_Tree, ...]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the mean vote of the trees.

        Parameters
        ----------
        features : array of float32, axes (pixels, features)

        Returns
        -------
        array of float32, axes (pixels, classes), range [0, 1]
        """
        rows = np.arange(len(features))
        total = np.zeros((len(features), self.trees[0].votes.shape[1]), np.float32)
        for tree in self.trees:
            node = np.zeros(len(features), np.int32)
            for _ in range(tree.depth):
                above = features[rows, tree.feature[node]] > tree.threshold[node]
                node = tree.children[node, above.astype(np.int8)]
            total += tree.votes[node]
        mean: NDArray[np.float32] = total / np.float32(len(self.trees))
        return mean


def grow_forest(
    features: NDArray[np.float32], classes: NDArray[np.integer], count: int, seed: int = 0
) -> Forest:
    """Grow a forest that tells classes apart.

    Parameters
    ----------
    features : array of float32, axes (pixels, features)
    classes : array of int, axes (pixels,), 0 to ``count - 1``
    count : int
        Number of classes; those without a pixel are never found.
    seed : int
    """
    rng = np.random.default_rng(seed)
    one_hot = np.eye(count, dtype=np.float32)[classes]
    # Every class as loud as the others, however much of it was painted.
    one_hot /= np.maximum(one_hot.sum(0), 1.0)
    seen = max(_LEAF * 2, min(round(_SEEN * len(features)), _MOST_SEEN))
    trees = []
    for _ in range(TREES):
        rows = rng.choice(len(features), min(seen, len(features)), replace=False)
        trees.append(_grow(features[rows], one_hot[rows], rng))
    return Forest(tuple(trees))


def _grow(
    features: NDArray[np.float32], one_hot: NDArray[np.float32], rng: np.random.Generator
) -> _Tree:
    tried = max(1, round(np.sqrt(features.shape[1])))
    feature: list[int] = []
    threshold: list[float] = []
    children: list[list[int]] = []
    votes: list[NDArray[np.float32]] = []
    deepest = 0
    waiting = [(np.arange(len(features)), 0, -1, 0)]  # rows, depth, parent, side
    while waiting:
        rows, depth, parent, side = waiting.pop()
        node = len(feature)
        if parent >= 0:
            children[parent][side] = node
        share = one_hot[rows].sum(0)
        feature.append(0)
        threshold.append(0.0)
        children.append([node, node])
        votes.append(share / max(float(share.sum()), 1e-12))
        deepest = max(deepest, depth)
        if depth >= _DEPTH or len(rows) < 2 * _LEAF or np.count_nonzero(share) < 2:
            continue
        split = _best_split(features[rows], one_hot[rows], tried, rng)
        if split is None:
            continue
        feature[node], threshold[node], above = split
        waiting.append((rows[~above], depth + 1, node, 0))
        waiting.append((rows[above], depth + 1, node, 1))
    return _Tree(
        np.array(feature, np.int32), np.array(threshold, np.float32),
        np.array(children, np.int32), np.array(votes, np.float32), deepest,
    )  # fmt: skip


def _best_split(
    features: NDArray[np.float32],
    one_hot: NDArray[np.float32],
    tried: int,
    rng: np.random.Generator,
) -> tuple[int, float, NDArray[np.bool_]] | None:
    picked = rng.choice(features.shape[1], tried, replace=False)
    values = features[:, picked]
    low, high = values.min(0), values.max(0)
    at = (low + rng.uniform(0.0, 1.0, tried) * (high - low)).astype(np.float32)
    above = values > at
    right = above.T.astype(np.float32) @ one_hot  # (tried, classes)
    left = one_hot.sum(0) - right
    count = above.sum(0)
    purity = sum((side**2).sum(1) / np.maximum(side.sum(1), 1e-12) for side in (left, right))
    purity[(count < _LEAF) | (len(features) - count < _LEAF)] = -1.0
    best = int(purity.argmax())
    if purity[best] < 0:
        return None
    return int(picked[best]), float(at[best]), above[:, best]
