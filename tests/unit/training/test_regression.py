"""A regression from few pixels with many features."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

from unet_studio.training.regression import fit_regression


def clouds(rng, count, features=150, apart=1.0):
    classes = rng.integers(0, 2, count)
    points = rng.normal(0, 1, (count, features)).astype(np.float32)
    points[:, :10] += apart * classes[:, None]
    return points * np.float32(30) + np.float32(500), classes  # of no particular unit


def test_more_features_than_pixels_do_not_mislead_it():
    rng = np.random.default_rng(0)
    regression = fit_regression(*clouds(rng, 100), 2)
    fresh, truth = clouds(rng, 2000)
    found = regression.probabilities(fresh)
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == truth).mean() > 0.8


def test_the_class_that_was_painted_less_is_as_loud():
    rng = np.random.default_rng(1)
    rare = rng.normal(1.0, 1.0, (20, 1)).astype(np.float32)
    common = rng.normal(-1.0, 1.0, (600, 1)).astype(np.float32)
    classes = np.repeat([1, 0], [20, 600])
    regression = fit_regression(np.concatenate([rare, common]), classes, 2)
    assert abs(regression.probabilities(np.zeros((1, 1), np.float32))[0, 1] - 0.5) < 0.1


def test_a_class_that_nobody_painted_is_never_found():
    points, classes = clouds(np.random.default_rng(2), 200)
    regression = fit_regression(points, classes * 2, 4)  # 0 and 2 of four
    found = regression.probabilities(points)
    assert not found[:, [1, 3]].any()
    assert np.allclose(found.sum(1), 1, atol=1e-5)


def test_features_that_are_all_the_same_say_nothing():
    points, classes = clouds(np.random.default_rng(3), 200)
    points[:, 20] = 7.0
    regression = fit_regression(points, classes, 2)
    assert np.isfinite(regression.weights).all()
    assert abs(regression.weights[20]).max() < 1e-6


def test_two_classes_are_told_apart_as_by_logistic_regression():
    """The cost of scikit-learn's, with C = 0.001, balanced classes and standardised features."""
    points, classes = clouds(np.random.default_rng(4), 400, features=30, apart=0.5)
    found = fit_regression(points, classes, 2).probabilities(points)[:, 1]
    scaled = (points - points.mean(0)) / points.std(0)
    sign = 2.0 * classes - 1
    loud = np.where(classes, 0.5 / classes.mean(), 0.5 / (1 - classes.mean())) * 1e-3

    def cost(w):
        margin = sign * (scaled @ w[:-1] + w[-1])
        return float(loud @ np.logaddexp(0, -margin)) + 0.5 * float(w[:-1] @ w[:-1])

    best = minimize(cost, np.zeros(31), method="BFGS", options={"gtol": 1e-8}).x
    expected = 1 / (1 + np.exp(-(scaled @ best[:-1] + best[-1])))
    assert np.abs(found - expected).max() < 2e-3
