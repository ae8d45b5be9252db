"""What a training learns from and is judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unet_studio.training.sampler import CropSampler


@dataclass
class Lessons:
    """What a training learns from and is judged by; the loop's only idea of data.

    Attributes
    ----------
    sampler : CropSampler
    batch : int
        Crops per step.
    rehearsal : callable or None
        Returns a number of crops of the sample images, axes (N, C, [Z,] Y, X).
    trust : float
        Weight of what is said where nothing was painted: by the old model, or by the
        batch's guess.
    trust_far : float
        The same on crops in which nothing at all was painted.
    haste : float
        How much of the speed-up that a new last layer brings to all others is taken, range
        [0, 1], as it is at the start.
    surplus : float
        Log-odds of all but the background in strokes, less those in the images.
    guess_surplus : float
        The same of what is guessed or was accepted.
    share_of_guess : float
        How much of that is guessed from strokes, range [0, 1]; the rest was accepted, if
        anything was.
    score : callable or None
        Scores a network on held-back regions, range [0, 1].
    chooses : bool
        Whether that score may choose what is kept and when to end: not if the result is
        judged on the same regions.
    keeps : callable or None
        Returns how much of what the old model was sure of, around strokes, a network still
        says, range [0, 1], or None.
    refresh : callable or None
        Returns a new sampler if annotations have changed, else None.
    last_third : callable or None
        Given the network after two thirds of the steps; judges it, and returns a sampler of
        everything, what it was judged by included, for the rest of the steps.
    watch : callable or None
        Shown the network as it would be kept after each step, on the training's thread.
    """

    sampler: CropSampler
    batch: int
    rehearsal: Callable[[int], torch.Tensor] | None = None
    trust: float = 0.0
    trust_far: float = 0.0
    haste: float = 1.0
    surplus: float = 0.0
    guess_surplus: float = 0.0
    share_of_guess: float = 0.0
    score: Callable[[nn.Module], float] | None = None
    chooses: bool = False
    keeps: Callable[[nn.Module], float | None] | None = None
    refresh: Callable[[], CropSampler | None] | None = None
    last_third: Callable[[nn.Module], CropSampler] | None = None
    watch: Callable[[nn.Module], None] | None = None
