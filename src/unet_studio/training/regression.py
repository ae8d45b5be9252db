"""Multinomial logistic regression on the features of painted pixels.

With more features than strokes, a penalty on the weights is what makes it say something of
pixels that nobody painted (Hastie, Tibshirani & Friedman 2009, The Elements of Statistical
Learning, section 4.4; doi:10.1007/978-0-387-84858-7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Weight of the errors of all pixels, relative to half of the sum of squared weights.
_TRUSTED_PER_PIXEL = 5e-4
_ROUNDS = 200
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class Regression:
    """Linear in the features, and as probable as the softmax says.

    Attributes
    ----------
    weights : array of float32, axes (features, classes)
    offsets : array of float32, axes (classes,)
    """

    weights: NDArray[np.float32]
    offsets: NDArray[np.float32]

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of the classes.

        Parameters
        ----------
        features : array of float32, axes (pixels, features)

        Returns
        -------
        array of float32, axes (pixels, classes), range [0, 1]
        """
        return _softmax(features @ self.weights + self.offsets)


def fit_regression(
    features: NDArray[np.float32], classes: NDArray[np.integer], count: int
) -> Regression:
    """Fit a regression that tells classes apart, each of them as loud as the others.

    Parameters
    ----------
    features : array of float32, axes (pixels, features)
    classes : array of int, axes (pixels,), 0 to ``count - 1``
    count : int
        Number of classes; those without a pixel are never found.
    """
    from scipy.optimize import minimize

    mean, spread = features.mean(0), features.std(0)
    spread = np.maximum(spread, _LEAST_SPREAD)
    known = np.column_stack([(features - mean) / spread, np.ones(len(features), np.float32)])
    painted, index = np.unique(classes, return_inverse=True)
    sizes = np.bincount(index)
    loud = (len(index) / len(painted) / sizes)[index] * _TRUSTED_PER_PIXEL
    one_hot = np.eye(len(painted), dtype=np.float32)[index]

    def cost(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(known.shape[1], len(painted))
        penalised = weights.copy()
        penalised[-1] = 0  # the offset costs nothing
        found = _softmax(known @ weights.astype(np.float32))
        errors = -np.log(np.maximum(found[np.arange(len(index)), index], 1e-12))
        slope = known.T @ ((found - one_hot) * loud[:, None].astype(np.float32))
        total = float(loud @ errors) + 0.5 * float((penalised**2).sum())
        return total, (slope + penalised).ravel()

    start = np.zeros(known.shape[1] * len(painted))
    best = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": _ROUNDS}).x
    fitted = best.reshape(known.shape[1], len(painted))
    weights = np.zeros((features.shape[1], count), np.float32)
    weights[:, painted] = fitted[:-1] / spread[:, None]
    offsets = np.full(count, -np.inf, np.float32)
    offsets[painted] = fitted[-1] - mean @ weights[:, painted]
    return Regression(weights, offsets)


def _softmax(values: NDArray[np.floating]) -> NDArray[np.float32]:
    raised = np.exp(values - values.max(-1, keepdims=True))
    shares: NDArray[np.float32] = (raised / raised.sum(-1, keepdims=True)).astype(np.float32)
    return shares
