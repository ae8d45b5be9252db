"""Network builders: architecture name to a function ``(card) -> torch.nn.Module``.

A builder returns a module with an attribute ``stride`` (the product of its
poolings: an integer, or one per axis) that maps ``(N, card.in_channels, [Z,] Y, X)`` to logits
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
        "sd-unet": "unet_studio.models.networks.separable:build",
        "plain-conv-unet": "unet_studio.models.networks.residual:build_plain",
        "residual-unet": "unet_studio.models.networks.residual:build_residual",
        "smp-unet": "unet_studio.models.networks.smp:build",
        "nnunet": "unet_studio.models.networks.nnunet:build",
        "zoo-unet2d": "unet_studio.models.networks.zoo_unet2d:build",
        "onnx": "unet_studio.models.networks.onnx:build",
        "torchscript": "unet_studio.models.networks.torchscript:build",
        "smp-unetplusplus": "unet_studio.models.networks.smp:build",
        "smp-manet": "unet_studio.models.networks.smp:build",
        "smp-linknet": "unet_studio.models.networks.smp:build",
        "smp-fpn": "unet_studio.models.networks.smp:build",
        "smp-pspnet": "unet_studio.models.networks.smp:build",
        "smp-pan": "unet_studio.models.networks.smp:build",
        "smp-deeplabv3": "unet_studio.models.networks.smp:build",
        "smp-deeplabv3plus": "unet_studio.models.networks.smp:build",
        "smp-upernet": "unet_studio.models.networks.smp:build",
        "smp-segformer": "unet_studio.models.networks.smp:build",
        "smp-dpt": "unet_studio.models.networks.smp:build",
        "hub-unet": "unet_studio.models.networks.hub_unet:build",
        "milesial-unet": "unet_studio.models.networks.milesial_unet:build",
    },
    entry_points="unet_studio.networks",
)

# A whole program is in the file, to be run as it is: in float32, with nothing folded.
PROGRAMS = {"onnx": "an ONNX program", "torchscript": "a TorchScript program"}
EMBEDDED = frozenset(PROGRAMS)
# What the buffer of such a program is called in a model file.
CONTENT = "content"
