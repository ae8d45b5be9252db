"""The U-Net of ``mateuszbuda/brain-segmentation-pytorch`` on torch.hub, by its weights' names.

Buda, Saha & Mazurowski, "Association of genomic subtypes of lower-grade gliomas with
shape features automatically extracted by a deep learning algorithm", Computers in
Biology and Medicine 109 (2019). Four levels, batch normalisation after every
convolution, transposed convolutions. The layers carry the names that its published
weights have, so that these load as they are.

The original ends in a sigmoid. This one returns logits, as every network here does.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

DEFAULT_FEATURES = 32
_LEVELS = 4


def _block(in_channels: int, features: int, name: str) -> nn.Sequential:
    """Twice convolution, batch normalisation and ReLU; ``name`` begins their names."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, channels in ((1, in_channels), (2, features)):
        layers[f"{name}conv{number}"] = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        layers[f"{name}norm{number}"] = nn.BatchNorm2d(features)
        layers[f"{name}relu{number}"] = nn.ReLU(inplace=True)
    return nn.Sequential(layers)


class HubUNet(nn.Module):
    """The network, with logits.

    Parameters
    ----------
    in_channels, out_channels : int
    features : int
        Channels of the first level; each further one has twice as many.

    Notes
    -----
    ``(N, in_channels, Y, X)`` to ``(N, out_channels, Y, X)``; Y and X are multiples of 16.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 1, features: int = DEFAULT_FEATURES
    ) -> None:
        super().__init__()
        self.stride = 2**_LEVELS
        self.pool = nn.MaxPool2d(2)
        widths = [features * 2**level for level in range(_LEVELS)]
        for level, width in enumerate(widths, start=1):
            channels = in_channels if level == 1 else width // 2
            self.add_module(f"encoder{level}", _block(channels, width, f"enc{level}"))
        self.bottleneck = _block(widths[-1], 2 * widths[-1], "bottleneck")
        for level, width in reversed(list(enumerate(widths, start=1))):
            self.add_module(f"upconv{level}", nn.ConvTranspose2d(2 * width, width, 2, stride=2))
            self.add_module(f"decoder{level}", _block(2 * width, width, f"dec{level}"))
        self.conv = nn.Conv2d(features, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the size of ``x``, axes (N, out_channels, Y, X)."""
        skips: list[torch.Tensor] = []
        for level in range(1, _LEVELS + 1):
            x = self.get_submodule(f"encoder{level}")(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for level in range(_LEVELS, 0, -1):
            x = self.get_submodule(f"upconv{level}")(x)
            x = self.get_submodule(f"decoder{level}")(torch.cat([x, skips.pop()], dim=1))
        logits: torch.Tensor = self.conv(x)
        return logits


def build(card: ModelCard) -> HubUNet:
    """Build the network that ``card`` describes; ``options`` may hold ``features``."""
    from unet_studio.errors import ModelError

    if card.ndim != 2:
        raise ModelError(
            "The network 'hub-unet' is two-dimensional. Choose two dimensions, or the "
            "architecture unet or residual-unet."
        )
    features = int(card.options.get("features", DEFAULT_FEATURES))
    if features < 1:
        raise ModelError(f"features is {features}; give at least 1.")
    return HubUNet(card.in_channels, card.out_channels, features)
