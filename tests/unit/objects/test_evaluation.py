"""Scores against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linear_sum_assignment

from unet_studio.errors import ImageError
from unet_studio.objects.evaluation import (
    THRESHOLDS,
    evaluate,
    evaluate_classes,
    pool,
    pool_classes,
)


def bar(*lengths_and_ids: tuple[int, int]) -> np.ndarray:
    """A one-row image of runs of labels."""
    return np.concatenate([np.full(n, i, np.int64) for n, i in lengths_and_ids])[None]


def test_a_worked_example():
    # Truth: objects of 10, 10 and 4 pixels. Labels: 8 of the first (IoU 0.8),
    # 6 of the second and 4 of background (6 / 14), nothing of the third,
    # and a false one of 3.
    truth = bar((10, 1), (5, 0), (10, 2), (5, 0), (4, 3), (10, 0))
    labels = bar((8, 5), (7, 0), (4, 0), (6, 9), (4, 9), (1, 0), (4, 0), (3, 2), (7, 0))
    scores = evaluate(labels, truth)
    assert (scores.found, scores.truth) == (3, 3)
    assert scores.true_positives(0.5) == 1
    assert scores.ap(0.5) == 1 / 5
    assert scores.ap(0.8) == 1 / 5
    assert scores.ap(0.85) == 0
    assert scores.precision() == scores.recall() == scores.f1() == pytest.approx(1 / 3)
    assert scores.mean_matched_iou == pytest.approx(0.8)
    assert scores.pq == pytest.approx(0.8 / 3)
    assert scores.mean_ap == pytest.approx(7 / 10 / 5)
    common, found, real = 8 + 6, 8 + 10 + 3, 24
    assert scores.iou == pytest.approx(common / (found + real - common))
    assert scores.dice == pytest.approx(2 * common / (found + real))


def test_thresholds_are_reached_exactly():
    # 3 of 5 pixels: IoU 0.6 reaches 0.6, though 0.5 + 2 * 0.05 in floats need not.
    scores = evaluate(bar((3, 1), (2, 0)), bar((5, 1)))
    assert scores.ap(0.6) == 1
    assert scores.ap(0.65) == 0


def test_two_halves_of_one_object_match_once():
    scores = evaluate(bar((5, 1), (5, 2)), bar((10, 1)))
    assert scores.true_positives(0.5) == 1
    assert scores.matched_iou == 0.5
    assert scores.ap(0.5) == 1 / 2


def test_every_halved_object_is_matched_once():
    # Two true objects, each halved, the ids in an order that a careless match gets wrong.
    labels = bar((4, 2), (4, 1), (4, 4), (4, 3))
    truth = bar((8, 1), (8, 2))
    assert evaluate(labels, truth).true_positives(0.5) == 2


def test_merged_objects_match_the_larger_one():
    scores = evaluate(bar((10, 1)), bar((6, 1), (4, 2)))
    assert scores.true_positives(0.5) == 1
    assert scores.matched_iou == pytest.approx(0.6)
    assert scores.recall() == 0.5


def test_nothing_to_find():
    empty, one = bar((9, 0)), bar((4, 1), (5, 0))
    perfect = evaluate(empty, empty)
    assert (perfect.ap(), perfect.f1(), perfect.pq, perfect.iou, perfect.dice) == (1, 1, 1, 1, 1)
    for labels, truth in [(empty, one), (one, empty)]:
        scores = evaluate(labels, truth)
        assert (scores.ap(), scores.f1(), scores.pq, scores.iou, scores.dice) == (0, 0, 0, 0, 0)


def test_pooling_counts_objects_not_images():
    many = evaluate(bar(*[(2, i) for i in range(1, 10)]), bar(*[(2, i) for i in range(1, 10)]))
    missed = evaluate(bar((2, 0)), bar((2, 1)))
    both = pool([many, missed])
    assert (both.images, both.found, both.truth) == (2, 9, 10)
    assert both.ap() == 9 / 10
    assert both.recall() == 9 / 10
    with pytest.raises(ValueError, match="no scores"):
        pool([])


def test_ids_may_be_sparse_and_huge():
    labels = bar((5, 2**40), (5, 7))
    truth = bar((5, 1), (5, 2**50))
    assert evaluate(labels, truth).ap(0.95) == 1


def test_many_objects_stay_sparse():
    # A full table would have 3.6e9 entries.
    labels = np.arange(1, 60_001).reshape(300, 200)
    assert evaluate(labels, labels[::-1, ::-1]).true_positives(0.95) == 60_000


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.uint8, (2, 5, 6), elements=st.integers(0, 4)),
    st.sampled_from(THRESHOLDS),
)
def test_agrees_with_the_definition(pair, threshold):
    labels, truth = pair
    scores = evaluate(labels, truth)
    found, real = (np.unique(p[p > 0]) for p in pair)
    iou = np.zeros((len(found), len(real)))
    for i, a in enumerate(found):
        for j, b in enumerate(real):
            iou[i, j] = ((labels == a) & (truth == b)).sum() / ((labels == a) | (truth == b)).sum()
    rows, columns = linear_sum_assignment(-(iou >= threshold).astype(float))
    expected = int((iou[rows, columns] >= threshold).sum())
    assert scores.true_positives(threshold) == expected
    union = ((labels > 0) | (truth > 0)).sum()
    if union:
        assert scores.iou == pytest.approx(((labels > 0) & (truth > 0)).sum() / union)
    assert 0 <= scores.pq <= scores.f1() <= 1
    swapped = evaluate(truth, labels)
    assert (swapped.precision(), swapped.ap(threshold)) == (scores.recall(), scores.ap(threshold))


def test_numbering_does_not_matter():
    random = np.random.default_rng(0)
    truth = np.kron(random.integers(0, 30, (10, 10)), np.ones((4, 4), int))
    labels = np.roll(truth, 1, axis=0)
    names = np.concatenate([[0], random.permutation(5000)[:29] + 1])
    assert evaluate(names[labels], truth) == evaluate(labels, truth)


def test_classes():
    labels = bar((4, 1), (4, 2), (2, 0))
    truth = bar((6, 1), (2, 2), (1, 0), (1, 3))
    one, two, three = evaluate_classes(labels, truth)
    assert (one.label, one.iou, one.dice) == (1, 4 / 6, 8 / 10)
    assert (two.label, two.iou, two.dice) == (2, 2 / 4, 4 / 6)
    assert (three.label, three.iou, three.dice) == (3, 0, 0)
    pooled = pool_classes([[one, two], [one]])
    assert [(s.label, s.truth_pixels) for s in pooled] == [(1, 12), (2, 2)]


def test_bad_input_is_refused_with_a_reason():
    good = np.ones((4, 4), np.uint8)
    with pytest.raises(ImageError, match=r"\(4, 4\).*\(4, 5\)"):
        evaluate(good, np.ones((4, 5), np.uint8))
    with pytest.raises(ImageError, match="negative"):
        evaluate(good, -good.astype(int))
    for bad in (0.5, np.nan, np.inf):
        with pytest.raises(ImageError, match="whole numbers"):
            evaluate(np.full((4, 4), bad), good)
    assert evaluate(good.astype(float), good.astype(bool)).ap() == 1


def test_unknown_threshold():
    with pytest.raises(ValueError, match=r"0\.42"):
        evaluate(bar((4, 1)), bar((4, 1))).ap(0.42)
