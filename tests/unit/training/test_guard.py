"""The guard: better is said of what is better, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.training.guard import judge, sign_test

KINDS = np.array([1, 2] * 6)


def test_the_sign_test_counts_all_signs():
    assert sign_test(np.ones(6)) == pytest.approx(1 / 64)
    assert sign_test(np.zeros(6)) == 1.0
    assert sign_test(-np.ones(6)) == 1.0
    many = np.random.default_rng(1).normal(0, 1, 40)
    assert 0 < sign_test(many) < 1


def test_a_clear_gain_is_better():
    verdict = judge(np.full(12, 0.4), np.full(12, 0.9), KINDS, agreement=0.95)
    assert verdict.finding == "better"
    assert verdict.adopted
    assert (verdict.old, verdict.new) == (pytest.approx(0.4), pytest.approx(0.9))
    assert "40 %" in verdict.reason
    assert "90 %" in verdict.reason
    assert verdict.as_dict()["agreement"] == 0.95


def test_a_loss_is_worse_and_so_is_no_change():
    assert judge(np.full(12, 0.9), np.full(12, 0.4), KINDS).finding == "worse"
    assert judge(np.full(12, 0.9), np.full(12, 0.9), KINDS).finding == "worse"


def test_a_gain_that_leaves_it_no_better_than_a_guess_is_worse():
    assert judge(np.full(12, 0.1), np.full(12, 0.5), KINDS).finding == "worse"


def test_a_gain_in_a_few_regions_is_too_little_to_judge():
    old = np.full(12, 0.6)
    new = old + np.array([0.4, 0.4, -0.3, -0.3] * 3)
    assert judge(old, new, KINDS).finding == "too little to judge"


@pytest.mark.parametrize("kinds", [[1, 2, 1, 2, 1], [1] * 12], ids=["five regions", "one class"])
def test_F90_too_few_regions_give_no_score(kinds):
    count = len(kinds)
    verdict = judge(np.zeros(count), np.ones(count), np.array(kinds))
    assert verdict.finding == "too little to judge"
    assert verdict.reason.startswith("No validation")
    assert (verdict.old, verdict.new, verdict.regions) == (None, None, 0)


def test_a_gain_on_strokes_that_costs_what_was_known_is_not_adopted():
    """Strokes are painted where the old model fails: there, any change is a gain."""
    verdict = judge(np.full(12, 0.3), np.full(12, 0.9), KINDS, agreement=0.43)
    assert verdict.finding == "too little to judge"
    assert not verdict.adopted
    assert "agrees with the old one by only 43 %" in verdict.reason


def test_every_class_counts_the_same():
    kinds = np.array([1] * 10 + [2] * 2)
    verdict = judge(np.full(12, 0.5), np.where(kinds == 1, 1.0, 0.0), kinds)
    assert verdict.new == pytest.approx(0.5)
    assert verdict.finding == "worse"


def test_of_models_that_guess_hardly_any_is_called_better():
    """Random answers on random classes: by chance alone, fewer than the significance says."""
    rng = np.random.default_rng(0)
    found = [
        judge(*rng.integers(0, 2, (2, 12)).astype(float), KINDS).finding == "better"
        for _ in range(300)
    ]
    assert np.mean(found) < 0.02
