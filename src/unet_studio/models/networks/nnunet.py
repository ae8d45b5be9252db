"""The U-Nets of nnU-Net v2 as its plans describe them, one per fold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.models.networks.residual import DynamicUNet
from unet_studio.models.per_axis import joined

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

# Bounds, so that no plan asks for a network without end.
Count = Annotated[int, Field(ge=1, le=32)]
Width = Annotated[int, Field(ge=1, le=8192)]
Edge = Annotated[int, Field(ge=1, le=15)]
Step = Annotated[int, Field(ge=1, le=8)]


class UNetPlan(BaseModel):
    """One network of nnU-Net.

    Attributes
    ----------
    residual : bool
        Residual blocks in the encoder (``ResidualEncoderUNet``), or plain convolutions
        (``PlainConvUNet``).
    widths : tuple of int
        Channels of each level, finest first.
    kernels, strides : tuple of tuple of int
        Per level and axis, in the network's order of axes.
    counts : tuple of int
        Convolutions or residual blocks of each level of the encoder.
    decoder_counts : tuple of int
        Convolutions of each level of the decoder, coarsest first.
    norm : {"instance", "batch"}
    members : int
        Networks of this form whose logits are averaged: the folds of a cross-validation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    residual: bool
    widths: tuple[Width, ...] = Field(min_length=2, max_length=12)
    kernels: tuple[tuple[Edge, ...], ...]
    strides: tuple[tuple[Step, ...], ...]
    counts: tuple[Count, ...]
    decoder_counts: tuple[Count, ...]
    norm: Literal["instance", "batch"] = "instance"
    members: int = Field(default=1, ge=1, le=20)

    @model_validator(mode="after")
    def _consistent(self) -> UNetPlan:
        levels = len(self.widths)
        for name, values, expected in (
            ("kernels", self.kernels, levels),
            ("strides", self.strides, levels),
            ("counts", self.counts, levels),
            ("decoder_counts", self.decoder_counts, levels - 1),
        ):
            if len(values) != expected:
                raise ValueError(f"{name} has {len(values)} entries for {levels} levels")
        if {len(axes) for axes in (*self.kernels, *self.strides)} not in ({2}, {3}):
            raise ValueError("kernels and strides have neither all two axes nor all three")
        if any(edge % 2 == 0 for kernel in self.kernels for edge in kernel):
            raise ValueError("a kernel with an even edge shifts the image")
        return self

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernels[0])

    @property
    def stride(self) -> tuple[int, ...]:
        """Product of the poolings, per axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


class NnunetUNet(nn.Module):
    """One or several U-Nets of one form; the mean of their logits.

    nnU-Net averages the folds' logits of a whole image; since these are weighted sums
    over tiles, averaging within each tile gives the same.

    Parameters
    ----------
    plan : UNetPlan
    in_channels, out_channels : int

    Notes
    -----
    Input and output are ``(N, C, Y, X)`` or ``(N, C, Z, Y, X)``; every spatial length a
    multiple of :attr:`stride`.
    """

    def __init__(self, plan: UNetPlan, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.stride = joined(plan.stride)
        self.members = nn.ModuleList(
            DynamicUNet(
                in_channels,
                out_channels,
                plan.widths,
                plan.counts,
                plan.decoder_counts,
                plan.kernels,
                plan.strides,
                plan.norm,
                residual=plan.residual,
            )
            for _ in range(plan.members)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, [Z,] Y, X)."""
        total: torch.Tensor = self.members[0](x)
        for member in self.members[1:]:
            total = total + member(x)
        return total / len(self.members) if len(self.members) > 1 else total


def build(card: ModelCard) -> NnunetUNet:
    """Build the networks that ``card.options`` describe: the fields of :class:`UNetPlan`.

    Without options, it is the network of :func:`default_options`.

    Raises
    ------
    ModelError
        If the options do not describe a network, or not one of the card's dimensions.
    """
    try:
        plan = UNetPlan.model_validate(card.options or default_options(card.ndim))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        message = f"{place}: {first['msg']}" if place else str(first["msg"])
        raise ModelError(
            f"{card.name!r} is no network of nnU-Net: {message}. Correct its card, or get the "
            "file again."
        ) from None
    if plan.ndim != card.ndim:
        raise ModelError(
            f"The kernels of {card.name!r} have {plan.ndim} axes, the network {card.ndim}. "
            "Correct its card, or get the file again."
        )
    return NnunetUNet(plan, card.in_channels, card.out_channels)


def default_options(ndim: int) -> dict[str, Any]:
    """Return the options of a plain U-Net as nnU-Net would plan it for small images.

    Parameters
    ----------
    ndim : {2, 3}
    """
    widths = (32, 64, 128, 256)
    return {
        "residual": False,
        "widths": widths,
        "kernels": [[3] * ndim] * len(widths),
        "strides": [[1] * ndim] + [[2] * ndim] * (len(widths) - 1),
        "counts": [2] * len(widths),
        "decoder_counts": [2] * (len(widths) - 1),
    }


def first_name(name: str) -> str | None:
    """Return the name that a weight of nnU-Net has here, or None for its second names.

    dynamic-network-architectures registers the encoder again in the decoder, and each
    convolution and normalisation again in a sequence ``all_modules``.

    Parameters
    ----------
    name : str
        In a state dict of that library's networks.
    """
    repeated = name.startswith("decoder.encoder.") or ".all_modules." in name
    return None if repeated else name
