"""What a package says of a network's source, for those who load the state dict with it."""

from __future__ import annotations

import inspect
from typing import Any

from unet_studio.models.card import ModelCard

_HEAD = '''"""The plain U-Net of U-Net Studio (BSD-3-Clause), standing on its own.

Ronneberger, Fischer & Brox, MICCAI 2015 (arXiv:1505.04597), with batch normalisation
and zero padding.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

ModelError = ValueError
ORIGINAL_WIDTHS = (64, 128, 256, 512, 1024)
_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
PerAxis = int | tuple[int, ...]


'''


def architecture_of(card: ModelCard) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return how a network is made: the format's words, and the files that these name.

    The plain U-Net is written out, so that it needs nothing but torch. All others are
    built by U-Net Studio, which has to be installed then; ONNX and TorchScript in the
    same package need neither.
    """
    if card.architecture == "unet" and set(card.options) <= {"widths", "poolings"}:
        from unet_studio.models import per_axis
        from unet_studio.models.networks import unet

        parts = (per_axis.joined, *unet.PARTS)
        source = _HEAD + "\n\n".join(inspect.getsource(part) for part in parts)
        kwargs = {
            "in_channels": card.in_channels,
            "out_channels": card.out_channels,
            "widths": list(card.options.get("widths", unet.ORIGINAL_WIDTHS)),
            "ndim": card.ndim,
            **({"poolings": card.options["poolings"]} if "poolings" in card.options else {}),
        }
        described = {"source": "unet.py", "callable": "UNet", "kwargs": kwargs}
        return described, {"unet.py": source.encode()}
    fields = {
        "name",
        "architecture",
        "options",
        "in_channels",
        "ndim",
        "representation",
        "classes",
    }
    described = {
        "import_from": "unet_studio.models.zoo.architecture",
        "callable": "network_of",
        "kwargs": card.model_dump(mode="json", include=fields),
    }
    environment = (
        b"channels: [conda-forge]\ndependencies:\n  - python >=3.11\n  - pip\n"
        b"  - pip:\n      - napari-unet-studio\n"
    )
    return described, {"environment.yaml": environment}


def network_of(**fields: Any) -> Any:
    """Build the untrained network of a package that we have written.

    Parameters
    ----------
    **fields
        Of the :class:`~unet_studio.models.card.ModelCard`.
    """
    from unet_studio.models.model import build_network

    return build_network(ModelCard.model_validate(fields))
