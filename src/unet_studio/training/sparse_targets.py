"""Targets where something is known of a pixel, and nothing where it is not.

A stroke says more about some output channels than about others: that a pixel is
foreground says nothing about how far the object's edge is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unet_studio.training.annotations import BACKGROUND
from unet_studio.training.targets import normalised_distance

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard
    from unet_studio.training.annotations import Mode


@dataclass(frozen=True)
class SparseTargets:
    """What a network should say, and where that is known.

    Attributes
    ----------
    values : array of float32, axes (C, [Z,] Y, X), range [0, 1]
        One per output channel; 0 where it is not known.
    known : array of bool, same shape
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]


def sparse_targets(labels: NDArray[np.integer], mode: Mode, card: ModelCard) -> SparseTargets:
    """Make targets of dense labels with gaps.

    Parameters
    ----------
    labels : array of int, axes ([Z,] Y, X)
        As of :meth:`~unet_studio.training.annotations.Annotations.block`: 0 not known,
        1 background.
    mode : {"classes", "objects"}
        What the numbers above 1 are.
    card : ModelCard
        For its representation and number of classes.
    """
    known = labels > 0
    if card.representation == "classes":
        classes = labels if mode == "classes" else np.minimum(labels, 2)
        numbers = np.arange(1, card.out_channels + 1).reshape(-1, *[1] * labels.ndim)
        values = (classes[None] == numbers).astype(np.float32)
        return SparseTargets(values, np.broadcast_to(known, values.shape).copy())
    foreground = labels > BACKGROUND
    if card.representation == "binary":
        return SparseTargets(foreground[None].astype(np.float32), known[None])
    boundary, boundary_known = _boundaries(labels, mode)
    distance, distance_known = _distances(labels, mode)
    return SparseTargets(
        np.stack([foreground, boundary, distance]).astype(np.float32),
        np.stack([known, boundary_known, distance_known]),
    )


def _neighbours(labels: NDArray[np.integer]) -> list[NDArray[np.integer]]:
    """Return the labels of the neighbours along each axis, both ways; 0 beyond the edge."""
    padded = np.pad(labels, 1)
    inner = [slice(1, -1)] * labels.ndim
    found = []
    for axis in range(labels.ndim):
        for part in (slice(None, -2), slice(2, None)):
            found.append(padded[(*inner[:axis], part, *inner[axis + 1 :])])
    return found


def _boundaries(
    labels: NDArray[np.integer], mode: Mode
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where an edge is, and where that is known.

    An edge is known where two different things were painted side by side; that there
    is none, where a pixel and all its neighbours were painted the same. Two cells of
    one class may touch anywhere in its strokes, so there nothing is known.
    """
    around = _neighbours(labels)
    known = labels > 0
    edge = known & np.any([(n > 0) & (n != labels) for n in around], axis=0)
    uniform = known & np.all([n == labels for n in around], axis=0)
    if mode == "classes":
        uniform &= labels == BACKGROUND
    return edge, edge | uniform


def _distances(
    labels: NDArray[np.integer], mode: Mode
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return relative depths, and where they are known.

    That of background is 0. That of an object is known if it is closed: everything
    around it was painted, so that its edge is where the painting says.
    """
    background = labels == BACKGROUND
    if mode == "classes" or not (labels > BACKGROUND).any():
        return np.zeros(labels.shape, np.float32), background
    objects = labels > BACKGROUND
    open_side = objects & np.any([n == 0 for n in _neighbours(labels)], axis=0)
    closed = objects & ~np.isin(labels, np.unique(labels[open_side]))
    # Consecutive numbers: an id of 2**31 would take an array of that size.
    _, ids = np.unique(np.where(closed, labels, 0), return_inverse=True)
    # A closed object does not touch the array's edge, so 0 is always the rest.
    return np.where(closed, normalised_distance(ids.reshape(labels.shape)), 0).astype(
        np.float32
    ), background | closed
