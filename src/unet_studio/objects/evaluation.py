"""How good labels are, measured against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from unet_studio.errors import ImageError
from unet_studio.objects.contingency import Overlaps, overlaps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

# Written out: summed up in steps of 0.05 they would miss an IoU of exactly 0.6.
THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def _share(part: float, whole: float) -> float:
    """Part of a whole; 1 where there was nothing to find and nothing was found."""
    return part / whole if whole else 1.0


@dataclass(frozen=True)
class Scores:
    """Counts of one or several pairs of images; the scores follow from them.

    Attributes
    ----------
    found, truth : int
        Number of objects in the labels and in the truth.
    matched : tuple of int
        Pairs of an object and a true object whose IoU reaches each of
        :data:`THRESHOLDS`, each object being in one pair at most.
    matched_iou : float
        Sum of the IoU of the pairs at 0.5.
    found_pixels, truth_pixels, common_pixels : int
        Foreground (all objects together) in the labels, the truth and both.
    images : int
        Number of pairs of images.
    """

    found: int
    truth: int
    matched: tuple[int, ...]
    matched_iou: float
    found_pixels: int
    truth_pixels: int
    common_pixels: int
    images: int = 1

    @property
    def iou(self) -> float:
        """Intersection over union of the foreground, range [0, 1]."""
        union = self.found_pixels + self.truth_pixels - self.common_pixels
        return _share(self.common_pixels, union)

    @property
    def dice(self) -> float:
        """Dice coefficient of the foreground, range [0, 1]."""
        return _share(2 * self.common_pixels, self.found_pixels + self.truth_pixels)

    def true_positives(self, threshold: float = 0.5) -> int:
        """Objects that were found, at an IoU out of :data:`THRESHOLDS`."""
        return self.matched[_position(threshold)]

    def ap(self, threshold: float = 0.5) -> float:
        """Average precision TP / (TP + FP + FN), range [0, 1]."""
        matched = self.true_positives(threshold)
        return _share(matched, self.found + self.truth - matched)

    def precision(self, threshold: float = 0.5) -> float:
        """Share of the objects found that are real, range [0, 1]."""
        return _share(self.true_positives(threshold), self.found)

    def recall(self, threshold: float = 0.5) -> float:
        """Share of the real objects that were found, range [0, 1]."""
        return _share(self.true_positives(threshold), self.truth)

    def f1(self, threshold: float = 0.5) -> float:
        """Harmonic mean of precision and recall, range [0, 1]."""
        return _share(2 * self.true_positives(threshold), self.found + self.truth)

    @property
    def mean_ap(self) -> float:
        """Mean of the average precision over all :data:`THRESHOLDS`."""
        return float(np.mean([self.ap(t) for t in THRESHOLDS]))

    @property
    def mean_matched_iou(self) -> float:
        """Segmentation quality (SQ): mean IoU of the pairs at 0.5; 0 without any pair."""
        if not self.found and not self.truth:
            return 1.0
        return self.matched_iou / self.matched[0] if self.matched[0] else 0.0

    @property
    def pq(self) -> float:
        """Panoptic quality: segmentation quality times F1 at 0.5."""
        return self.mean_matched_iou * self.f1(0.5)

    def as_dict(self) -> dict[str, Any]:
        """Return counts and scores as plain values, for JSON."""
        return {
            "images": self.images,
            "objects": self.found,
            "truth": self.truth,
            "true_positives": self.matched[0],
            "false_positives": self.found - self.matched[0],
            "false_negatives": self.truth - self.matched[0],
            "iou": self.iou,
            "dice": self.dice,
            "precision": self.precision(),
            "recall": self.recall(),
            "f1": self.f1(),
            "mean_matched_iou": self.mean_matched_iou,
            "pq": self.pq,
            "ap": {f"{t:g}": self.ap(t) for t in THRESHOLDS},
            "mean_ap": self.mean_ap,
        }


@dataclass(frozen=True)
class ClassScores:
    """Pixel counts of one class, of one or several pairs of images.

    Attributes
    ----------
    label : int
        The class.
    found_pixels, truth_pixels, common_pixels : int
        Pixels of the class in the labels, the truth and both.
    """

    label: int
    found_pixels: int
    truth_pixels: int
    common_pixels: int

    @property
    def iou(self) -> float:
        """Intersection over union, range [0, 1]."""
        return _share(
            self.common_pixels, self.found_pixels + self.truth_pixels - self.common_pixels
        )

    @property
    def dice(self) -> float:
        """Dice coefficient, range [0, 1]."""
        return _share(2 * self.common_pixels, self.found_pixels + self.truth_pixels)


def _position(threshold: float) -> int:
    for index, known in enumerate(THRESHOLDS):
        if abs(known - threshold) < 1e-9:
            return index
    raise ValueError(f"Scores are counted at an IoU of {THRESHOLDS}, not at {threshold}.")


def as_labels(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return an array as labels: whole numbers from 0 on.

    Parameters
    ----------
    array : array of bool, int or float, any axes
        Whole numbers stored as float are taken for what they are.
    name : str
        Subject of the error message.

    Raises
    ------
    ImageError
        If there are fractions or negative numbers.
    """
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and bool(np.isfinite(array).all() and (array % 1 == 0).all()):
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ImageError(
            f"{name} holds values of type {array.dtype} that are not whole numbers; labels are "
            "(0 background, each object its own number). Is it the image instead of its labels?"
        )
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise ImageError(
            f"{name} holds negative numbers (down to {int(array.min())}); labels start at 0, "
            "the background. Set what is to be left out to 0 in both images."
        )
    return array


def _checked(labels: NDArray[Any], truth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if labels.shape != truth.shape:
        raise ImageError(
            f"The labels have the shape {labels.shape}, but the truth has {truth.shape}. "
            "Compare images of the same field and size."
        )
    return as_labels(labels, "The label image"), as_labels(truth, "The truth")


def _match(table: Overlaps, threshold: float) -> tuple[int, float]:
    """Pair objects one to one; return the number of pairs and the sum of their IoU."""
    iou = table.iou
    good = iou >= threshold
    found, truth, iou = table.found_index[good], table.truth_index[good], iou[good]
    if not found.size:
        return 0, 0.0
    # Above 0.5 no object can have two partners. At exactly 0.5 (an object that
    # was cut in half) it can, and then all of its candidates have exactly 0.5:
    # the largest matching decides, and the sum does not depend on which it is.
    shape = (int(found.max()) + 1, int(truth.max()) + 1)
    graph = csr_array((iou, (found, truth)), shape=shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    paired = partner[found] == truth
    return int(paired.sum()), float(iou[paired].sum())


def evaluate(labels: NDArray[Any], truth: NDArray[Any]) -> Scores:
    """Compare the objects of a label image with the truth.

    Parameters
    ----------
    labels, truth : array of int, same shape, any axes
        0 is background, every other number an object.

    Raises
    ------
    ImageError
        If the shapes differ or the values are not whole numbers from 0 on.
    """
    table = overlaps(*_checked(labels, truth))
    counts, sums = zip(*(_match(table, t) for t in THRESHOLDS), strict=True)
    return Scores(
        found=len(table.found_ids),
        truth=len(table.truth_ids),
        matched=counts,
        matched_iou=sums[0],
        found_pixels=int(table.found_sizes.sum()),
        truth_pixels=int(table.truth_sizes.sum()),
        common_pixels=int(table.common.sum()),
    )


def pool(scores: Iterable[Scores]) -> Scores:
    """Add up several images: every object counts the same, whichever image it is in.

    Raises
    ------
    ValueError
        If there is nothing to add up.
    """
    every = list(scores)
    if not every:
        raise ValueError("There are no scores to pool.")
    return Scores(
        found=sum(s.found for s in every),
        truth=sum(s.truth for s in every),
        matched=tuple(sum(m) for m in zip(*(s.matched for s in every), strict=True)),
        matched_iou=sum(s.matched_iou for s in every),
        found_pixels=sum(s.found_pixels for s in every),
        truth_pixels=sum(s.truth_pixels for s in every),
        common_pixels=sum(s.common_pixels for s in every),
        images=sum(s.images for s in every),
    )


def evaluate_classes(labels: NDArray[Any], truth: NDArray[Any]) -> tuple[ClassScores, ...]:
    """Compare two class masks, class by class.

    Parameters
    ----------
    labels, truth : array of int, same shape, any axes
        0 is background and gets no score, every other number is a class.

    Returns
    -------
    tuple of ClassScores
        Of every class that occurs in either, ascending.

    Raises
    ------
    ImageError
        If the shapes differ or the values are not whole numbers from 0 on.
    """
    table = overlaps(*_checked(labels, truth))
    found = dict(zip(table.found_ids.tolist(), table.found_sizes.tolist(), strict=True))
    real = dict(zip(table.truth_ids.tolist(), table.truth_sizes.tolist(), strict=True))
    same = table.found_ids[table.found_index] == table.truth_ids[table.truth_index]
    ids = table.found_ids[table.found_index[same]]
    common = dict(zip(ids.tolist(), table.common[same].tolist(), strict=True))
    return tuple(
        ClassScores(c, found.get(c, 0), real.get(c, 0), common.get(c, 0))
        for c in sorted(found.keys() | real.keys())
    )


def pool_classes(scores: Iterable[Iterable[ClassScores]]) -> tuple[ClassScores, ...]:
    """Add up several images, class by class."""
    total: dict[int, ClassScores] = {}
    for s in (s for image in scores for s in image):
        seen = total.get(s.label, ClassScores(s.label, 0, 0, 0))
        total[s.label] = ClassScores(
            s.label,
            seen.found_pixels + s.found_pixels,
            seen.truth_pixels + s.truth_pixels,
            seen.common_pixels + s.common_pixels,
        )
    return tuple(total[c] for c in sorted(total))
