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


def smallest_label_dtype(max_id: int, *, objects: bool = True) -> np.dtype[Any]:
    """Return the smallest dtype in which labels up to ``max_id`` fit.

    Objects take 16 bits at least, so that a few can be added by hand; classes
    take 8.

    Raises
    ------
    ValueError
        If the number is negative or needs more than 64 bits.
    """
    for candidate in UNSIGNED if objects else (np.dtype("u1"), *UNSIGNED):
        if 0 <= max_id <= np.iinfo(candidate).max:
            return candidate
    raise ValueError(f"No label dtype holds {max_id}.")
