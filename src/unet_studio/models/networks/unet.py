"""The plain U-Net.

Ronneberger, Fischer & Brox, "U-Net: Convolutional Networks for Biomedical
Image Segmentation", MICCAI 2015 (arXiv:1505.04597), with the two changes
that almost every later implementation made: batch normalisation after each
convolution, and zero padding so that the output is as large as the input.

Narrow widths follow "Stripping down U-Net for Segmentation of Biomedical
Images on Platforms with Low Computational Budgets": most of the channels of
the original can go before accuracy does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.models.per_axis import joined

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

ORIGINAL_WIDTHS = (64, 128, 256, 512, 1024)
SLIM_WIDTHS = (16, 32, 64, 128, 256)

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class DoubleConvolution(nn.Sequential):
    """Twice: 3×3 convolution, batch normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, ndim: int = 2) -> None:
        convolution, norm = _CONVOLUTION[ndim], _NORM[ndim]
        super().__init__(
            # No bias: the batch normalisation that follows has its own.
            convolution(in_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
            convolution(out_channels, out_channels, 3, padding=1, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )


class UpBlock(nn.Module):
    """Undo one pooling, halve the channels, join the skip, convolve twice."""

    def __init__(
        self, in_channels: int, skip_channels: int, ndim: int = 2, pooling: Sequence[int] = ()
    ) -> None:
        super().__init__()
        steps: Any = tuple(pooling) or (2,) * ndim
        self.up = _TRANSPOSED[ndim](in_channels, skip_channels, steps, stride=steps)
        self.convolutions = DoubleConvolution(2 * skip_channels, skip_channels, ndim)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Join ``x`` (coarse) with ``skip`` (fine): axes (N, C, [Z,] Y, X)."""
        joined: torch.Tensor = self.convolutions(torch.cat([skip, self.up(x)], dim=1))
        return joined


def initialise_for_relu(network: nn.Module) -> None:
    """Draw the weights of all convolutions so that ReLUs keep the variance; zero their biases.

    He et al. 2015 (arXiv:1502.01852). Transposed convolutions, which no ReLU follows, keep
    their own start.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class UNet(nn.Module):
    """U-Net with a choice of widths, in two or three dimensions.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the input image and of the logits.
    widths : sequence of int
        Channels per resolution level, finest first. ``len(widths) - 1``
        poolings; each level halves the resolution.
    ndim : {2, 3}
        Spatial dimensions.
    poolings : sequence of sequence of int, optional
        Factor of each pooling along [Z,] Y, X, finest first, instead of 2 everywhere:
        ``[(1, 2, 2), (2, 2, 2)]`` leaves thick planes apart at first, as nnU-Net does
        with anisotropic voxels (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

    Notes
    -----
    Input and output are ``(N, C, Y, X)`` or ``(N, C, Z, Y, X)``. Every spatial
    length must be a multiple of :attr:`stride` (of its own, if there is one per
    axis); the tile planner sees to that.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = ORIGINAL_WIDTHS,
        ndim: int = 2,
        poolings: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if ndim not in _CONVOLUTION:
            raise ModelError(f"ndim is {ndim}; a U-Net has 2 or 3 spatial dimensions.")
        if len(widths) < 2 or min(widths) < 1:
            raise ModelError(f"widths is {tuple(widths)}; give at least two positive numbers.")
        steps = _poolings(poolings, len(widths) - 1, ndim)
        self.stride = joined([math.prod(axis) for axis in zip(*steps, strict=True)])
        inputs = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            DoubleConvolution(n_in, n_out, ndim)
            for n_in, n_out in zip(inputs, widths, strict=True)
        )
        self.pools = nn.ModuleList(_POOL[ndim](step) for step in steps)
        self.up = nn.ModuleList(
            UpBlock(widths[level], widths[level - 1], ndim, steps[level - 1])
            for level in range(len(widths) - 1, 0, -1)
        )
        self.head = _CONVOLUTION[ndim](widths[0], out_channels, 1)
        initialise_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, [Z,] Y, X)."""
        skips: list[torch.Tensor] = []
        for level, convolutions in enumerate(self.down):
            x = convolutions(x if level == 0 else self.pools[level - 1](x))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(x, skips.pop())
        logits: torch.Tensor = self.head(x)
        return logits


def _poolings(
    given: Sequence[Sequence[int]] | None, count: int, ndim: int
) -> list[tuple[int, ...]]:
    if given is None:
        return [(2,) * ndim] * count
    steps = [tuple(int(factor) for factor in step) for step in given]
    if len(steps) != count or any(len(s) != ndim or not 1 <= min(s) for s in steps):
        raise ModelError(
            f"poolings is {[list(s) for s in steps]}; {count + 1} widths in {ndim} dimensions "
            f"need {count} poolings of {ndim} factors of at least 1."
        )
    return steps


# All that the network is made of, for packages that have to stand on their own.
PARTS = (_poolings, initialise_for_relu, DoubleConvolution, UpBlock, UNet)


def build(card: ModelCard) -> UNet:
    """Build the plain U-Net that ``card`` describes.

    ``options`` may hold ``widths`` and ``poolings``; see :class:`UNet`.
    """
    widths = tuple(card.options.get("widths", ORIGINAL_WIDTHS))
    poolings = card.options.get("poolings")
    return UNet(card.in_channels, card.out_channels, widths, card.ndim, poolings)
