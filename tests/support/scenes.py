"""Small images with a truth, and strokes on them."""

from __future__ import annotations

import numpy as np


def scene(frames: int = 8, edge: int = 64, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright disks on a dark, noisy ground: images uint8 and truth bool, axes (T, Y, X)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:edge, :edge]
    truth = np.zeros((frames, edge, edge), bool)
    for frame in truth:
        for _ in range(3):
            cy, cx = rng.uniform(10, edge - 10, 2)
            frame |= np.hypot(y - cy, x - cx) < rng.uniform(5, 9)
    image = 60 + 90 * truth + rng.normal(0, 12, truth.shape)
    return image.clip(0, 255).astype(np.uint8), truth


def strokes(truth: np.ndarray, per_frame: int = 3, seed: int = 0) -> np.ndarray:
    """Short strokes of both classes, 1 background and 2 foreground; 0 elsewhere."""
    rng = np.random.default_rng(seed)
    painted = np.zeros(truth.shape, np.uint8)
    for frame, mask in zip(painted, truth, strict=True):
        for kind in (False, True):
            places = np.argwhere(mask == kind)
            for y, x in places[rng.integers(len(places), size=per_frame)]:
                part = np.s_[max(0, y - 1) : y + 2, max(0, x - 4) : x + 5]
                frame[part][mask[part] == kind] = 1 + kind
    return painted
