"""U-Nets after nnU-Net: plain, or with residual blocks in the encoder; 2D and 3D.

Isensee et al. 2021, Nature Methods 18:203 (plain convolutions), and Isensee et al.
2024, "nnU-Net Revisited", arXiv:2404.09556 (residual encoder). Strided convolutions
pool, transposed ones enlarge, leaky ReLUs and instance normalisation throughout.
The residual block is that of ResNet-D (He et al. 2019, arXiv:1812.01187): where it
pools, its shortcut averages before it mixes the channels.

Modules are named as in the reference implementation
(https://github.com/MIC-DKFZ/dynamic-network-architectures), so that its weights fit
once its second and third name for the same tensor are left out.
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

# Any: lengths are tuples of as many numbers as there are dimensions.
_CONVOLUTION: dict[int, Any] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_AVERAGE: dict[int, Any] = {2: nn.AvgPool2d, 3: nn.AvgPool3d}
_NORMS: dict[str, dict[int, Any]] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
}
_SLOPE = 0.01
# nnU-Net's widths: 32, doubled per level, at most these.
WIDEST = {2: 512, 3: 320}
Lengths = tuple[int, ...]


class _Layer(nn.Module):
    """Convolution, normalisation, and perhaps a leaky ReLU."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        kernel: Lengths,
        stride: Lengths,
        norm: str,
        *,
        bias: bool = True,
        active: bool = True,
    ) -> None:
        super().__init__()
        ndim = len(kernel)
        padding = tuple((k - 1) // 2 for k in kernel)
        self.conv = _CONVOLUTION[ndim](n_in, n_out, kernel, stride, padding, bias=bias)
        self.norm = _NORMS[norm][ndim](n_out, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(_SLOPE, inplace=True) if active else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.nonlin(self.norm(self.conv(x)))
        return result


class _Stack(nn.Module):
    """Several layers, the first with a stride."""

    def __init__(
        self, count: int, n_in: int, n_out: int, kernel: Lengths, stride: Lengths, norm: str
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.convs = nn.Sequential(
            _Layer(n_in, n_out, kernel, stride, norm),
            *(_Layer(n_out, n_out, kernel, ones, norm) for _ in range(count - 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.convs(x)
        return result


class _Residual(nn.Module):
    """Two layers and a shortcut around them."""

    def __init__(self, n_in: int, n_out: int, kernel: Lengths, stride: Lengths, norm: str) -> None:
        super().__init__()
        ndim = len(kernel)
        ones = (1,) * ndim
        self.conv1 = _Layer(n_in, n_out, kernel, stride, norm)
        self.conv2 = _Layer(n_out, n_out, kernel, ones, norm, active=False)
        self.nonlin2 = nn.LeakyReLU(_SLOPE, inplace=True)
        shortcut: list[nn.Module] = []
        if max(stride) > 1:
            shortcut.append(_AVERAGE[ndim](stride, stride))
        if n_in != n_out:
            shortcut.append(_Layer(n_in, n_out, ones, ones, norm, bias=False, active=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return result


class _Stage(nn.Module):
    """Several residual blocks, the first with a stride."""

    def __init__(
        self, count: int, n_in: int, n_out: int, kernel: Lengths, stride: Lengths, norm: str
    ) -> None:
        super().__init__()
        ones = (1,) * len(kernel)
        self.blocks = nn.Sequential(
            _Residual(n_in, n_out, kernel, stride, norm),
            *(_Residual(n_out, n_out, kernel, ones, norm) for _ in range(count - 1)),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.blocks(x)
        return result


class _Encoder(nn.Module):
    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        counts: Sequence[int],
        kernels: Sequence[Lengths],
        strides: Sequence[Lengths],
        norm: str,
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        n_in = in_channels
        self.stem: nn.Module | None = None
        if residual:
            self.stem = _Stack(1, n_in, widths[0], kernels[0], (1,) * len(kernels[0]), norm)
            n_in = widths[0]
        stages: list[nn.Module] = []
        for width, count, kernel, stride in zip(widths, counts, kernels, strides, strict=True):
            stage = (_Stage if residual else _Stack)(count, n_in, width, kernel, stride, norm)
            stages.append(stage if residual else nn.Sequential(stage))
            n_in = width
        self.stages = nn.Sequential(*stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        if self.stem is not None:
            x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class _Decoder(nn.Module):
    def __init__(
        self,
        out_channels: int,
        widths: Sequence[int],
        counts: Sequence[int],
        kernels: Sequence[Lengths],
        strides: Sequence[Lengths],
        norm: str,
    ) -> None:
        super().__init__()
        ndim = len(kernels[0])
        ones = (1,) * ndim
        self.stages, self.transpconvs = nn.ModuleList(), nn.ModuleList()
        self.seg_layers = nn.ModuleList()
        for index, level in enumerate(range(len(widths) - 1, 0, -1)):
            coarse, fine, stride = widths[level], widths[level - 1], strides[level]
            self.transpconvs.append(_TRANSPOSED[ndim](coarse, fine, stride, stride))
            self.stages.append(
                _Stack(counts[index], 2 * fine, fine, kernels[level - 1], ones, norm)
            )
            # Only the last is used here; weights trained with deep supervision have all.
            self.seg_layers.append(_CONVOLUTION[ndim](fine, out_channels, 1))

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        x = features[-1]
        for index, (enlarge, stage) in enumerate(zip(self.transpconvs, self.stages, strict=True)):
            x = stage(torch.cat([enlarge(x), features[-2 - index]], dim=1))
        logits: torch.Tensor = self.seg_layers[-1](x)
        return logits


class DynamicUNet(nn.Module):
    """U-Net with a plain or residual encoder whose every level is set by numbers.

    Parameters
    ----------
    in_channels, out_channels : int
    widths : sequence of int
        Channels per level, finest first.
    counts : sequence of int
        Convolutions (plain) or residual blocks per level of the encoder.
    decoder_counts : sequence of int
        Convolutions per level of the decoder, coarsest first: one fewer than levels.
    kernels, strides : sequence of tuple of int
        Per level, in the order [Z] Y X, in pixels. The first stride is all 1.
    norm : {"instance", "batch"}
        Instance normalisation looks at the whole image, so tiles can only be blended.
    residual : bool

    Notes
    -----
    Input and output are ``(N, C, [Z,] Y, X)``; lengths are multiples of :attr:`stride`:
    the product of the strides, one number per axis where they differ.

    Raises
    ------
    ModelError
        If the lists do not fit each other.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        counts: Sequence[int],
        decoder_counts: Sequence[int],
        kernels: Sequence[Lengths],
        strides: Sequence[Lengths],
        norm: str = "instance",
        *,
        residual: bool = True,
    ) -> None:
        super().__init__()
        levels = len(widths)
        if levels < 2 or {len(counts), len(kernels), len(strides), len(decoder_counts) + 1} != {
            levels
        }:
            raise ModelError(
                f"{levels} widths, {len(counts)} counts, {len(kernels)} kernels, {len(strides)} "
                f"strides and {len(decoder_counts)} decoder counts do not make a U-Net: give one "
                "per level, at least two levels, and one decoder count fewer."
            )
        if norm not in _NORMS:
            raise ModelError(f"norm is {norm!r}; give one of {', '.join(_NORMS)}.")
        self.stride = joined([math.prod(axis) for axis in zip(*strides, strict=True)])
        self.encoder = _Encoder(
            in_channels, widths, counts, kernels, strides, norm, residual=residual
        )
        self.decoder = _Decoder(out_channels, widths, decoder_counts, kernels, strides, norm)
        self._initialise()

    def _initialise(self) -> None:
        # He et al. 2015 (arXiv:1502.01852), for leaky ReLUs.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, _Residual):
                # Each block begins as its shortcut.
                nn.init.zeros_(module.conv2.norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, [Z,] Y, X)."""
        logits: torch.Tensor = self.decoder(self.encoder(x))
        return logits


def build_residual(card: ModelCard) -> DynamicUNet:
    """Build a U-Net with a residual encoder; see :func:`build_plain` for the options."""
    return _build(card, residual=True)


def build_plain(card: ModelCard) -> DynamicUNet:
    """Build a U-Net of plain strided convolutions.

    ``options`` may hold ``widths``, ``counts``, ``decoder_counts``, ``kernels``,
    ``strides`` and ``norm``, as in :class:`DynamicUNet`.

    Raises
    ------
    ModelError
    """
    return _build(card, residual=False)


def _build(card: ModelCard, *, residual: bool) -> DynamicUNet:
    options, ndim = card.options, card.ndim
    widths = tuple(options.get("widths", default_widths(ndim)))
    levels = len(widths)
    usual = (1, 3, 4, 6, 6, 6, 6, 6)[:levels] if residual else (2,) * levels
    return DynamicUNet(
        card.in_channels,
        card.out_channels,
        widths,
        tuple(options.get("counts", usual)),
        tuple(options.get("decoder_counts", (1 if residual else 2,) * (levels - 1))),
        _lengths(options.get("kernels", [3] * levels), ndim),
        _lengths(options.get("strides", [1] + [2] * (levels - 1)), ndim),
        str(options.get("norm", "instance")),
        residual=residual,
    )


def default_widths(ndim: int) -> Lengths:
    """Return five levels of nnU-Net's usual widths."""
    return tuple(min(32 * 2**level, WIDEST[ndim]) for level in range(5))


def _lengths(values: Sequence[int | Sequence[int]], ndim: int) -> tuple[Lengths, ...]:
    return tuple((v,) * ndim if isinstance(v, int) else tuple(v) for v in values)
