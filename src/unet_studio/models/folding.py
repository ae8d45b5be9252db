"""Fold batch normalisation into the convolution before it: the same result with fewer passes.

In evaluation mode a batch normalisation is a scale and a shift per channel,
which the convolution can do in its weights (Jacob et al. 2018,
arXiv:1712.05877, section 3.2). Which convolution feeds which normalisation is
seen by running the network once, so no architecture has to be known.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_BATCH_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)
# The folded network has to give the same, relative to the deviation of the output.
_TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norms(network: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of a network without the batch normalisations that can be folded.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode; left as it is.
    example : tensor of float32, axes (N, C, [Z,] Y, X)
        A small input; what is in it does not matter, as long as it is not constant.

    Returns
    -------
    torch.nn.Module
        A copy in any case; unfolded if the folded one did not give the same result.
    """
    folded = copy.deepcopy(network)
    names = {module: name for name, module in folded.named_modules()}
    for convolution, norm in _pairs(folded, example):
        fused = fuse_conv_bn_eval(convolution, norm)
        _replace(folded, names[convolution], fused)
        _replace(folded, names[norm], nn.Identity())
    expected = network(example)
    error = (folded(example) - expected).abs().max() / expected.std().clamp(min=1e-12)
    return folded if float(error) <= _TOLERANCE else copy.deepcopy(network)


def _pairs(network: nn.Module, example: torch.Tensor) -> list[tuple[Any, Any]]:
    """Return each convolution whose output goes into a batch normalisation, with that."""
    made: dict[int, tuple[nn.Module, torch.Tensor]] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []
    uses: dict[nn.Module, int] = {}

    def leave(module: nn.Module, _: Any, output: torch.Tensor) -> None:
        uses[module] = uses.get(module, 0) + 1
        made[id(output)] = (module, output)  # held, so that no other tensor gets its id

    def enter(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        uses[module] = uses.get(module, 0) + 1
        source = made.get(id(inputs[0]))
        if source is not None:
            pairs.append((source[0], module))

    handles: list[Any] = []
    for module in network.modules():
        if type(module) in (nn.Conv2d, nn.Conv3d):
            handles.append(module.register_forward_hook(leave))
        elif isinstance(module, _BATCH_NORMS) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(enter))
    try:
        network(example)
    finally:
        for handle in handles:
            handle.remove()
    # A module that is used twice would be folded for one of its uses only.
    return [pair for pair in pairs if all(uses[module] == 1 for module in pair)]


def _replace(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, module)
