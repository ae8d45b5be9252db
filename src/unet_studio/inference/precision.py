"""Networks in the precision and the form in which torch runs them fastest."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unet_studio.models.networks import EMBEDDED

if TYPE_CHECKING:
    import torch
    from torch import nn

    from unet_studio.models.card import ModelCard

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}


def prepare(
    network: nn.Module,
    card: ModelCard,
    device: torch.device,
    precision: str,
    *,
    fused: bool = True,
) -> nn.Module:
    """Return a copy of a network in the form in which it runs fastest.

    Batch normalisations are folded into convolutions, weights are in the chosen
    precision, and channels last where the network is of two dimensions. On a CPU ReLUs and
    joins are left to the convolutions, too.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; left as it is.
    card : ModelCard
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}
    fused : bool
        False for a network that another back end is to read, operation by operation.
    """
    import torch

    from unet_studio.models.folding import fold_batch_norms
    from unet_studio.models.fusing import fuse

    if card.architecture in EMBEDDED:
        return copy.deepcopy(network).to(device)
    shape = [2 * stride for stride in card.strides]
    generator = torch.Generator().manual_seed(0)
    example = torch.rand(1, card.in_channels, *shape, generator=generator)
    if any(p.device.type != "cpu" for p in network.parameters()):
        network = copy.deepcopy(network).cpu()  # moving it would move the caller's
    prepared = fold_batch_norms(network, example).requires_grad_(False)
    dtype = getattr(torch, precision)
    prepared = prepared.to(device, dtype)
    if card.ndim == 3:
        return prepared
    prepared = prepared.to(memory_format=torch.channels_last)
    if device.type != "cpu" or not fused:
        return prepared
    return fuse(prepared, example.to(dtype).contiguous(memory_format=torch.channels_last))


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep CUDA convolutions in fp32: TF32 would break the equality of tiles and whole."""
    import torch

    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=False, allow_tf32=False
    ):
        yield
