"""The parts of a network that learn at different rates."""

from __future__ import annotations

from typing import Any

from torch import nn


def encoder_parameters(network: Any) -> list[nn.Parameter]:
    """Return the parameters of a network's encoder; none if it does not name one.

    Parameters
    ----------
    network : torch.nn.Module
        With a module called ``encoder`` (segmentation-models-pytorch) or ``down`` (ours).
    """
    part = getattr(network, "encoder", None) or getattr(network, "down", None)
    return list(part.parameters()) if isinstance(part, nn.Module) else []


def head_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a network's last layer."""
    named = dict(network.named_parameters())
    return [named[name] for name in head_names(network)]


def head_names(network: nn.Module) -> list[str]:
    """Return the names of the parameters of a network's last layer."""
    names = [name for name, _ in network.named_parameters()]
    last = names[-1].rpartition(".")[0]
    return [name for name in names if name.rpartition(".")[0] == last]
