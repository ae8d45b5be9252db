"""From tiles as they were read to what a network takes, on the device they lie on.

Whole numbers are half to an eighth as long as what the network computes with, and
the channels of a grey image are all the same. So tiles go to a GPU as they are, and are
scaled and repeated there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from unet_studio.inference.channels import LUMA

if TYPE_CHECKING:
    from unet_studio.images.normalisation import Scaling
    from unet_studio.inference.channels import ChannelMap

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Intake:
    """What is done to the pixels of an image before the network.

    The numbers are those of :meth:`ChannelMap.mix`, :meth:`Scaling.apply` and
    :meth:`ChannelMap.expand`, which do the same to arrays.

    Attributes
    ----------
    scaling : Scaling
    channel_map : ChannelMap
    """

    scaling: Scaling
    channel_map: ChannelMap

    def prepare(
        self, raw: torch.Tensor, dtype: torch.dtype, *, channels_last: bool
    ) -> torch.Tensor:
        """Return a batch as the network takes it.

        Parameters
        ----------
        raw : torch.Tensor of any real dtype, axes (N, C, [Z,] Y, X)
            As read. On a device that knows float64, if its numbers are wider than 16 bits.
        dtype : torch.dtype
            What the network computes with.
        channels_last : bool
            Whether batches of planes are wanted in that order of memory.

        Returns
        -------
        torch.Tensor, axes (N, C, [Z,] Y, X)
            A copy. NaN and infinite pixels are 0.
        """
        scaled = self._scaled(self._mixed(raw)).to(dtype)
        repeat = self.channel_map.repeat
        if repeat > 1:
            scaled = scaled.expand(-1, repeat, *(-1,) * (scaled.ndim - 2))
        if channels_last and scaled.ndim == 4:
            return scaled.contiguous(memory_format=torch.channels_last)
        return scaled.contiguous()

    def _mixed(self, raw: torch.Tensor) -> torch.Tensor:
        if not self.channel_map.luma:
            return raw
        colours = [raw[:, i : i + 1].to(torch.float32) * float(LUMA[i]) for i in range(len(LUMA))]
        return colours[0].add_(colours[1]).add_(colours[2])

    def _scaled(self, image: torch.Tensor) -> torch.Tensor:
        # float32 carries 8- and 16-bit integers exactly; wider types need more.
        wide = image.dtype.itemsize > 2
        scaled = image.to(torch.float64 if wide else torch.float32, copy=True)
        affine = list(zip(self.scaling.offset, self.scaling.gain, strict=True))
        if len(set(affine)) == 1:
            scaled.sub_(affine[0][0]).mul_(affine[0][1])
        else:
            for channel, (offset, gain) in enumerate(affine):
                scaled[:, channel].sub_(offset).mul_(gain)
        if image.is_floating_point():
            scaled.masked_fill_(~torch.isfinite(image), 0)
        low, high = self.scaling.clip or (-np.inf, np.inf)
        if wide or self.scaling.clip is not None:
            # What float32 can not hold would become infinite.
            scaled.clamp_(max(low, -_LARGEST), min(high, _LARGEST))
        return scaled.to(torch.float32)
