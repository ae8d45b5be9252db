"""The U-Net of the BioImage Model Zoo's example ``unet2d_nuclei_broad``.

Its layout was read off its weights and its ONNX graph: two 3×3 convolutions, then one
ReLU, per level; 2×2 maximum pooling; bilinear upsampling followed by a 1×1 convolution.
The module names are those of its state dict, so that this loads as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from unet_studio.errors import ModelError

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

WIDTHS = (16, 32, 64, 128)


def _convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(inplace=True),
    )


def _upsampler(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
        nn.Conv2d(in_channels, out_channels, 1),
    )


class ZooUNet2d(nn.Module):
    """See the module's description.

    Parameters
    ----------
    in_channels, out_channels : int
        Of the image and of the logits.
    widths : sequence of int
        Channels per level, finest first; the last are those of the base.
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ModelError(f"widths is {tuple(widths)}; give at least two positive numbers.")
        *levels, base = widths
        falling = list(reversed(widths))
        steps = list(itertools.pairwise(falling))
        self.stride = 2 ** len(levels)
        self.encoders = nn.ModuleList(
            _convolutions(n_in, n_out)
            for n_in, n_out in zip([in_channels, *levels], levels, strict=False)
        )
        self.base = _convolutions(levels[-1], base)
        self.decoders = nn.ModuleList(_convolutions(n_in, n_out) for n_in, n_out in steps)
        self.upsamplers = nn.ModuleList(_upsampler(n_in, n_out) for n_in, n_out in steps)
        self.pool = nn.MaxPool2d(2)
        self.output = nn.Conv2d(levels[0], out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, Y, X)."""
        skips: list[torch.Tensor] = []
        for encoder in self.encoders:
            x = encoder(x)
            skips.append(x)
            x = self.pool(x)
        x = self.base(x)
        for upsampler, decoder in zip(self.upsamplers, self.decoders, strict=True):
            x = decoder(torch.cat([skips.pop(), upsampler(x)], dim=1))
        logits: torch.Tensor = self.output(x)
        return logits


def build(card: ModelCard) -> ZooUNet2d:
    """Build the network that ``card`` describes; ``options`` may hold ``widths``."""
    if card.ndim != 2:
        raise ModelError(
            "The network zoo-unet2d is two-dimensional. Choose two dimensions, or the "
            "architecture unet or residual-unet."
        )
    return ZooUNet2d(card.in_channels, card.out_channels, card.options.get("widths", WIDTHS))
