"""A widespread U-Net layout: that of ``milesial/Pytorch-UNet``, by its weights' names.

https://github.com/milesial/Pytorch-UNet: double convolutions ``inc``, ``down1``…,
``up1``… and ``outc``, in two forms: bilinear upsampling (corners aligned), or
transposed convolutions. Many repositories have copied it with their own widths, so
all of these are options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from unet_studio.errors import ModelError

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

DEFAULT_WIDTHS = (64, 128, 256, 512, 1024)


class DoubleConv(nn.Module):
    """Twice: 3×3 convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, middle: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, middle, 3, padding=1, bias=bias),
            nn.BatchNorm2d(middle),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, out_channels, 3, padding=1, bias=bias),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve (N, C, Y, X)."""
        result: torch.Tensor = self.double_conv(x)
        return result


class Down(nn.Module):
    """Halve the resolution, then convolve twice."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        convolutions = DoubleConv(in_channels, out_channels, out_channels, bias)
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), convolutions)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, C, Y/2, X/2)."""
        result: torch.Tensor = self.maxpool_conv(x)
        return result


class Up(nn.Module):
    """Double the resolution, join the skip, convolve twice."""

    def __init__(
        self, below: int, skip: int, middle: int, out: int, bilinear: bool, bias: bool
    ) -> None:
        super().__init__()
        self.up: nn.Module
        if bilinear:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            raised = below
        else:
            raised = below // 2
            self.up = nn.ConvTranspose2d(below, raised, 2, stride=2)
        self.conv = DoubleConv(skip + raised, middle, out, bias)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Join ``x`` (coarse) with ``skip`` (fine)."""
        result: torch.Tensor = self.conv(torch.cat([skip, self.up(x)], dim=1))
        return result


class OutConv(nn.Module):
    """The last 1×1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        result: torch.Tensor = self.conv(x)
        return result


class MilesialUNet(nn.Module):
    """The network.

    Parameters
    ----------
    in_channels, out_channels : int
    widths : sequence of int
        Channels after ``inc`` and each ``down``. In the original's bilinear form the
        last is half of what it otherwise would be.
    ups : sequence of (int, int), optional
        Channels within and after each ``up``, coarsest first; those of the original
        by default.
    bilinear : bool
        Upsample bilinearly instead of by transposed convolutions.
    bias : bool
        Whether the double convolutions have biases (older versions of the original).

    Notes
    -----
    ``(N, in_channels, Y, X)`` to logits ``(N, out_channels, Y, X)``.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 2,
        widths: Sequence[int] = DEFAULT_WIDTHS,
        ups: Sequence[Sequence[int]] | None = None,
        bilinear: bool = False,
        bias: bool = False,
    ) -> None:
        super().__init__()
        depth = len(widths) - 1
        ups = default_ups(widths, bilinear) if ups is None else ups
        if depth < 1 or len(ups) != depth or any(len(pair) != 2 for pair in ups):
            raise ModelError(
                f"widths {tuple(widths)} and ups {ups!r} do not make a U-Net: give two widths or "
                "more, and one pair of ups fewer."
            )
        self.stride = 2**depth
        self._depth = depth
        self.inc = DoubleConv(in_channels, widths[0], widths[0], bias)
        for level in range(depth):
            self.add_module(f"down{level + 1}", Down(widths[level], widths[level + 1], bias))
        below = widths[-1]
        for level, (middle, out) in enumerate(ups):
            skip = widths[depth - 1 - level]
            self.add_module(f"up{level + 1}", Up(below, skip, middle, out, bilinear, bias))
            below = out
        self.outc = OutConv(below, out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, Y, X)."""
        x = self.inc(x)
        skips: list[torch.Tensor] = []
        for level in range(1, self._depth + 1):
            skips.append(x)
            x = self.get_submodule(f"down{level}")(x)
        for level in range(1, self._depth + 1):
            x = self.get_submodule(f"up{level}")(x, skips.pop())
        logits: torch.Tensor = self.outc(x)
        return logits


def default_ups(widths: Sequence[int], bilinear: bool) -> list[tuple[int, int]]:
    """Return the channels of the ``up`` blocks in the original, for its ``widths``."""
    fine = list(widths[:-1])[::-1]
    if not bilinear:
        return [(width, width) for width in fine]
    outs = [*fine[1:], fine[-1]]
    skips = zip(fine, [widths[-1], *outs[:-1]], strict=True)
    return [((skip + below) // 2, out) for (skip, below), out in zip(skips, outs, strict=True)]


def build(card: ModelCard) -> MilesialUNet:
    """Build the network that ``card`` describes.

    ``options`` may hold ``widths``, ``ups``, ``bilinear`` and ``bias``; see
    :class:`MilesialUNet`.
    """
    if card.ndim != 2:
        raise ModelError(
            "The network 'milesial-unet' is two-dimensional. Choose two dimensions, or the "
            "architecture unet or residual-unet."
        )
    options = card.options
    return MilesialUNet(
        card.in_channels,
        card.out_channels,
        tuple(options.get("widths", DEFAULT_WIDTHS)),
        options.get("ups"),
        bool(options.get("bilinear", False)),
        bool(options.get("bias", False)),
    )
