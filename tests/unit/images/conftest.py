"""An image that several files of readers read."""

from __future__ import annotations

import numpy as np
import pytest

RNG = np.random.default_rng(1)


@pytest.fixture
def stack() -> np.ndarray:
    return RNG.integers(0, 60_000, (4, 40, 50), dtype=np.uint16)
