"""Give a 3D U-Net the weights of a trained 2D one.

By default each kernel becomes the middle plane of the new one, and the others are zero: the
3D network begins by seeing each plane as the 2D one did, and learns what its neighbours
tell ("central frame initialisation" in Arnab et al. 2021, "ViViT", arXiv:2103.15691, section
3.4). With ``"mean"`` the kernel is repeated along the new axis and divided by its length
(Carreira & Zisserman 2017, "Quo Vadis, Action Recognition?", arXiv:1705.07750, section
2.4), which blurs stacks whose planes differ. Measured: ``benchmarks/results/first_layers.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from unet_studio.errors import ModelError
from unet_studio.models.encoder_weights import COLOURS, adapt_channels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from unet_studio.models.model import Model

Inflation = Literal["centre", "mean"]
INFLATABLE = ("unet",)
_FIRST, _LAST = "down.0.0.weight", "head.bias"


def inflate_weights(
    weights: Mapping[str, torch.Tensor],
    target: Mapping[str, torch.Tensor],
    how: Inflation = "centre",
) -> dict[str, torch.Tensor]:
    """Return weights of two dimensions in the shapes of three.

    Parameters
    ----------
    weights : mapping of str to tensor
        Of the 2D network; kernels have the axes (C_out, C_in, Y, X).
    target : mapping of str to tensor
        Of the same network in 3D, for its shapes.
    how : {"centre", "mean"}

    Raises
    ------
    ModelError
        If the networks differ in more than the new axis.
    """
    if set(weights) != set(target):
        raise ModelError("The two networks do not have the same layers; inflate between equals.")
    inflated = {}
    for name, wanted in target.items():
        flat = weights[name]
        if flat.shape == wanted.shape:
            inflated[name] = flat.clone()
            continue
        if flat.ndim != 4 or wanted.shape[:2] + wanted.shape[3:] != flat.shape:
            raise ModelError(
                f"{name} has shape {tuple(flat.shape)} in 2D and {tuple(wanted.shape)} in 3D; "
                "only an axis can be added. Make the 3D network with the same widths."
            )
        depth = wanted.shape[2]
        if depth % 2 == 0:
            # A transposed convolution that enlarges: each new plane comes from one old plane.
            inflated[name] = flat.unsqueeze(2).repeat(1, 1, depth, 1, 1)
        elif how == "mean":
            inflated[name] = flat.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
        else:
            kernel = torch.zeros_like(wanted)
            kernel[:, :, depth // 2] = flat
            inflated[name] = kernel
    return inflated


def inflate_into(network: nn.Module, flat: Model, how: Inflation = "centre") -> tuple[str, ...]:
    """Load the weights of a 2D model into the same network in 3D, in place.

    A first layer for red, green and blue is adapted to the network's channels; a last layer
    of another number of outputs stays random.

    Returns
    -------
    tuple of str
        What could not be taken over, for the user.

    Raises
    ------
    ModelError
        If the model is no plain 2D U-Net, or differs in more than the new axis.
    """
    if flat.card.architecture not in INFLATABLE or flat.card.ndim != 2:
        raise ModelError(
            f"{flat.card.name!r} is a {flat.card.ndim}D {flat.card.architecture}; only the plain "
            "2D U-Net (architecture unet) can be made 3D."
        )
    weights, target = flat.network.state_dict(), network.state_dict()
    channels = target[_FIRST].shape[1]
    if weights[_FIRST].shape[1] == COLOURS != channels:
        weights[_FIRST] = adapt_channels(weights[_FIRST], channels)
    own: dict[str, torch.Tensor] = {}
    notes: tuple[str, ...] = ()
    if len(weights[_LAST]) != len(target[_LAST]):
        notes = (
            f"{flat.card.name!r} has {len(weights[_LAST])} outputs and the new model "
            f"{len(target[_LAST])}, so its last layer is random.",
        )
        own = {name: target.pop(name) for name in tuple(target) if name.startswith("head.")}
        weights = {n: w for n, w in weights.items() if not n.startswith("head.")}
    network.load_state_dict({**inflate_weights(weights, target, how), **own})
    return notes
