"""What the training scripts have in common: rate, averaged weights, safe checkpoints."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch

WARM_UP = 300
EMA_DECAY = 0.999


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of the peak."""
    if step < WARM_UP:
        return peak * (step + 1) / WARM_UP
    progress = (step - WARM_UP) / max(1, steps - WARM_UP)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def update_average(average: dict[str, torch.Tensor], net: torch.nn.Module, step: int) -> None:
    """Move the averaged weights and statistics a little towards the current ones."""
    # A plain exponential average would remember the random start for a thousand steps.
    share = max(1 - EMA_DECAY, 1 / (step / 4 + 1))
    for name, value in net.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
        else:
            average[name].copy_(value)


def save_atomically(state: dict[str, object], path: Path) -> None:
    """Never leave a half-written checkpoint behind."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
