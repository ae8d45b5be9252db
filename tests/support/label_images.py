"""Label images for files of every kind."""

from __future__ import annotations

import numpy as np


def labels_up_to(largest: int, shape: tuple[int, ...] = (30, 40)) -> np.ndarray:
    """Two rectangles, of the number given and of half of it."""
    labels = np.zeros(shape, np.uint64)
    labels[..., 3:9, 4:12] = largest
    labels[..., 20:22, 30:33] = largest // 2
    return labels
