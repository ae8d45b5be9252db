"""How far two masks are the same."""

from __future__ import annotations

import numpy as np


def overlap(mask, other):
    """Return the intersection over the union."""
    return (mask & other).sum() / (mask | other).sum()


def dice(found, truth):
    return 2 * (found & truth).sum() / (found.sum() + truth.sum())


def iou(proposal, truth):
    """Return how far a proposal of a click session is the object meant."""
    found = np.zeros(truth.shape, bool)
    found[proposal.region] = proposal.mask
    return overlap(found, truth)
