"""A device that lacks an operation, as Apple's GPUs do: torch's "meta" device stands for one.

Tensors move to it as to any other, and nothing is ever computed there.
"""

from __future__ import annotations

import torch
from torch import nn

DEVICE = torch.device("meta")
LACKS = NotImplementedError(
    "The operator 'aten::max_pool3d' is not currently implemented for the MPS device. As a "
    "temporary fix, you can set an environment variable."
)


class OnlyOnCpus(nn.Module):
    """A network that only CPUs can run."""

    def __init__(self, network: nn.Module, error: Exception = LACKS) -> None:
        super().__init__()
        self.network, self.error = network, error
        self.stride = getattr(network, "stride", None)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.device.type != "cpu":
            raise self.error
        return self.network(x)
