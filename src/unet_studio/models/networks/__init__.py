"""Network builders: architecture name to a function ``(card) -> torch.nn.Module``.

A builder returns a module with an integer attribute ``stride`` (the product of
its poolings) that maps ``(N, card.in_channels, [Z,] Y, X)`` to logits
``(N, card.out_channels, [Z,] Y, X)``. To add a network: one file here, one
line below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unet_studio.registry import Registry

if TYPE_CHECKING:
    from torch import nn

    from unet_studio.models.card import ModelCard


class NetworkBuilder(Protocol):
    """Builds an untrained network as its card describes it."""

    def __call__(self, card: ModelCard) -> nn.Module:
        """Return the network, with random weights."""
        ...


NETWORKS: Registry[NetworkBuilder] = Registry(
    "network",
    {
        "unet": "unet_studio.models.networks.unet:build",
        "smp-unet": "unet_studio.models.networks.smp:build",
    },
    entry_points="unet_studio.networks",
)
