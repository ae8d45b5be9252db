"""What a model that answers clicks is shown: part of its card, without torch."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Red, green, blue; the previous mask; positive clicks; negative clicks.
CLICK_CHANNELS = 6


class ClickInput(BaseModel):
    """How a crop of an image and the clicks on it become the input of a network.

    :mod:`unet_studio.clicks.encoding` is what does it.

    Attributes
    ----------
    edge : int
        Edge of the square crop that the network sees, in working pixels: those of the
        crop after it was scaled, so that the object fills a good part of it.
    radius : float
        A click is a disk of the pixels whose centres are no farther from it than this,
        in working pixels.
    low, high : float
        Percentiles, range [0, 100], of all pixels and channels of the crop together that
        become 0 and 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    edge: int = Field(default=160, ge=32, le=1024)
    radius: float = Field(default=3.0, ge=0.5, le=64)
    low: float = Field(default=1.0, ge=0, lt=100)
    high: float = Field(default=99.0, gt=0, le=100)

    @model_validator(mode="after")
    def _in_order(self) -> ClickInput:
        if self.low >= self.high:
            raise ValueError(f"the percentiles {self.low} and {self.high} are not in order")
        return self
