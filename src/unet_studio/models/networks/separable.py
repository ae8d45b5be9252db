"""A U-Net stripped down with depthwise separable convolutions (SD-UNet).

Gadosey et al., "SD-UNet: Stripping Down U-Net for Segmentation of Biomedical
Images on Platforms with Low Computational Budgets", Diagnostics 10(2):110, 2020
(doi:10.3390/diagnostics10020110). Every convolution but the first is split into
one per channel and a mixing of the channels, as in MobileNet (Howard et al. 2017,
arXiv:1704.04861); group normalisation (Wu & He 2018, arXiv:1803.08494) with weight
standardisation (Qiao et al. 2019, arXiv:1903.10520) makes up for what that costs.

Group normalisation looks at the whole image, so tiles can only be blended. With
``norm="batch"`` each convolution is followed by a batch normalisation instead, and
tiles are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

from unet_studio.errors import ModelError
from unet_studio.models.networks.unet import ORIGINAL_WIDTHS, initialise_for_relu

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}
_GROUPS = 8
_SMALLEST_VARIANCE = 1e-5


class _Standardised(nn.Conv2d):
    """Convolution per channel whose kernels have zero mean and unit deviation."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, standardised(self.weight), None, 1, 1, 1, self.groups)


class _Standardised3d(nn.Conv3d):
    """The same in three dimensions."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv3d(x, standardised(self.weight), None, 1, 1, 1, self.groups)


def standardised(weight: torch.Tensor) -> torch.Tensor:
    """Return kernels (C_out, C_in, [Z,] Y, X) with zero mean and unit deviation each."""
    axes = tuple(range(1, weight.ndim))
    centred = weight - weight.mean(dim=axes, keepdim=True)
    variance = centred.square().mean(dim=axes, keepdim=True)
    return centred * torch.rsqrt(variance + _SMALLEST_VARIANCE)


def _separable(n_in: int, n_out: int, ndim: int, norm: str) -> list[nn.Module]:
    """Return a 3×3 convolution per channel, then one that mixes the channels."""
    if norm == "group":
        each: type[nn.Module] = {2: _Standardised, 3: _Standardised3d}[ndim]
    else:
        each = _CONVOLUTION[ndim]
    return [
        each(n_in, n_in, 3, padding=1, groups=n_in, bias=False),
        _CONVOLUTION[ndim](n_in, n_out, 1, bias=norm == "group"),
    ]


def _block(n_in: int, n_out: int, ndim: int, norm: str, *, first: bool = False) -> nn.Sequential:
    """Return two convolutions of one level; ``first`` begins with a plain one."""
    layers: list[nn.Module] = []
    for index, width in enumerate((n_in, n_out)):
        if first and index == 0:
            layers.append(_CONVOLUTION[ndim](width, n_out, 3, padding=1, bias=norm == "group"))
        else:
            layers += _separable(width, n_out, ndim, norm)
        if norm == "batch":
            layers.append(_BATCH_NORM[ndim](n_out))
        layers.append(nn.ReLU(inplace=True))
    if norm == "group":
        layers.append(nn.GroupNorm(min(_GROUPS, n_out), n_out))
    return nn.Sequential(*layers)


class SeparableUNet(nn.Module):
    """U-Net of depthwise separable convolutions, in two or three dimensions.

    Parameters
    ----------
    in_channels, out_channels : int
    widths : sequence of int
        Channels per resolution level, finest first; each level halves the resolution.
    ndim : {2, 3}
    norm : {"group", "batch"}
        "group" is the published network; "batch" is exact in tiles.
    dropout : float
        Share of the channels that are dropped below the last pooling but one, in
        training.

    Notes
    -----
    Input and output are ``(N, C, [Z,] Y, X)``; lengths are multiples of :attr:`stride`.

    Raises
    ------
    ModelError
        For options out of range.
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 1,
        widths: Sequence[int] = ORIGINAL_WIDTHS,
        ndim: int = 2,
        norm: str = "group",
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if norm not in ("group", "batch"):
            raise ModelError(f"norm is {norm!r}; a stripped U-Net has 'group' or 'batch'.")
        if len(widths) < 2 or min(widths) < 1:
            raise ModelError(f"widths is {tuple(widths)}; give at least two positive numbers.")
        if norm == "group" and any(width % min(_GROUPS, width) for width in widths):
            raise ModelError(f"widths is {tuple(widths)}; with norm 'group', multiples of 8.")
        self.stride = 2 ** (len(widths) - 1)
        inputs = [in_channels, *widths[:-1]]
        self.down = nn.ModuleList(
            _block(n_in, n_out, ndim, norm, first=level == 0)
            for level, (n_in, n_out) in enumerate(zip(inputs, widths, strict=True))
        )
        self.pool = _POOL[ndim](2)
        self.dropout = _DROPOUT[ndim](dropout)
        self.reduce = nn.ModuleList()
        self.up = nn.ModuleList()
        for level in range(len(widths) - 1, 0, -1):
            fine = widths[level - 1]
            self.reduce.append(
                nn.Sequential(*_separable(widths[level], fine, ndim, norm), nn.ReLU(inplace=True))
            )
            self.up.append(_block(2 * fine, fine, ndim, norm))
        self.head = _CONVOLUTION[ndim](widths[0], out_channels, 1)
        initialise_for_relu(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, [Z,] Y, X)."""
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else self.pool(x))
            if level == len(self.down) - 2:
                x = self.dropout(x)
            skips.append(x)
        skips.pop()
        for reduce, block in zip(self.reduce, self.up, strict=True):
            x = reduce(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = block(torch.cat([skips.pop(), x], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def build(card: ModelCard) -> SeparableUNet:
    """Build the stripped U-Net of ``card``; ``options``: ``widths``, ``norm``, ``dropout``."""
    options = card.options
    return SeparableUNet(
        card.in_channels,
        card.out_channels,
        tuple(options.get("widths", ORIGINAL_WIDTHS)),
        card.ndim,
        str(options.get("norm", "group")),
        float(options.get("dropout", 0.5)),
    )
