"""Which integer type holds the ids of a label image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNSIGNED = (np.dtype("u2"), np.dtype("u4"), np.dtype("u8"))


def fit_labels(labels: NDArray[Any], types: Sequence[np.dtype[Any]] = UNSIGNED) -> NDArray[Any]:
    """Return labels in the first of ``types`` that holds the largest id.

    Parameters
    ----------
    labels : array of whole numbers >= 0, any axes
    types : sequence of integer dtypes, smallest first
        16 bit is the smallest by default: viewers show 8-bit files as pictures,
        and the results of one batch should be of one type.
    """
    largest = int(labels.max()) if labels.size else 0
    return labels.astype(next(t for t in types if np.iinfo(t).max >= largest), copy=False)
