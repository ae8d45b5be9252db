"""How to train, as one frozen value."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FitSettings(BaseModel):
    """How to train.

    Attributes
    ----------
    seconds : float
        Time for training; how many steps fit is measured at the start.
    steps : int or None
        So many steps instead: then a seed fixes the result.
    batch : int
        Crops around annotations per step; of smaller images more, so that steps cost
        the same.
    crop : int
        Edge of the crops, in pixels (3D: along Y and X).
    rate : float
        Peak learning rate of decoder and head. Under a new last layer all others learn up to
        three times as quickly, and it learns ten times as quickly as they.
    encoder_share : float
        Learning rate of the encoder, relative to ``rate``.
    frozen_share : float
        Share of the steps during which the encoder does not learn at all.
    average : float
        Decay of the averaged weights, which are those that are kept.
    trust : float
        Weight of what the old model says (of a new one: what is guessed from the
        strokes) where nothing was painted, relative to what is usual; 0 learns from strokes
        alone.
    rehearse : int
        Crops of the sample images per step on which the old model's word is kept; 0
        allows forgetting.
    share : float or None
        How far to go from the old model's weights to those that were learned: 0 changes
        nothing, 1 goes all of the way, as a new model always does. None is as far as what
        was known stays, or what is best on held-back regions where there are enough to choose
        by some and judge by others.
    patience : int
        Evaluations without a better score after which training stops, where there are
        regions to choose by.
    evaluations : int
        Times that held-back regions are looked at.
    seed : int
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = Field(default=60.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch: int = Field(default=8, ge=1)
    crop: int = Field(default=80, ge=16)
    rate: float = Field(default=1e-3, gt=0)
    encoder_share: float = Field(default=0.1, ge=0, le=1)
    frozen_share: float = Field(default=0.2, ge=0, le=1)
    average: float = Field(default=0.95, ge=0, lt=1)
    trust: float = Field(default=1.0, ge=0)
    rehearse: int = Field(default=2, ge=0)
    share: float | None = Field(default=None, ge=0, le=1)
    patience: int = Field(default=3, ge=1)
    evaluations: int = Field(default=5, ge=1)
    seed: int = Field(default=0, ge=0)
