"""What becomes of each pixel's probabilities, decided where the network is.

Where only classes are wanted in the end, one byte per pixel comes back of a device
and goes to a disk, instead of a float16 per channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Decision:
    """How classes are made of probabilities, each pixel on its own.

    Attributes
    ----------
    kind : {"foreground", "likeliest"}
        "foreground": 1 where the first channel is above ``level``, else 0. "likeliest":
        the index of the largest channel (the first of equal ones), or 0 where that is
        below ``level``.
    level : float
        Range 0 to 1.
    """

    kind: Literal["foreground", "likeliest"]
    level: float

    def classes(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Return classes, as they would be made of the probabilities later.

        Parameters
        ----------
        probabilities : torch.Tensor of float16, axes (N, C, ...)
            In the digits in which they would be kept, so that both decide alike. NaN counts
            as background.

        Returns
        -------
        torch.Tensor of uint8, axes (N, 1, ...)
        """
        import torch

        first = probabilities[:, :1]
        if self.kind == "foreground":
            return (first > float(np.float16(self.level))).to(torch.uint8)
        best = first.float()
        found = torch.zeros_like(best, dtype=torch.uint8)
        for index in range(1, probabilities.shape[1]):
            channel = probabilities[:, index : index + 1].float()
            found.masked_fill_(channel > best, index)
            best = torch.maximum(best, channel)
        background = torch.isnan(best)
        if self.level > 0:
            background |= best < float(np.float32(self.level))
        return found.masked_fill_(background, 0)
