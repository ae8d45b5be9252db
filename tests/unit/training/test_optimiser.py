"""The optimiser does what torch's does, without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from unet_studio.training.optimiser import AdamW

REFINES = """
import sys
import numpy as np
from unet_studio import refine
image = np.random.default_rng(0).integers(0, 9, (64, 64)).astype(np.uint8)
painted = np.zeros((64, 64), np.uint8)
painted[8:20, 8:20], painted[40:50, 40:50] = 1, 2
for _ in range(2):
    model = refine(image, painted, "random:unet-tiny", axes="YX", steps=2, crop=48).model
print([name for name in sys.modules if name == "torch._dynamo"])
"""


def test_it_does_what_torchs_does():
    networks = []
    for kind in (torch.optim.AdamW, AdamW):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3))
        groups = [
            {"params": network[0].parameters()},
            {"params": network[2].parameters(), "lr": 1},
        ]
        optimiser = kind(groups, 1e-2, weight_decay=1e-4)
        for _ in range(5):
            network(torch.rand(2, 1, 8, 8)).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            assert all(p.grad is None for p in network.parameters())
        networks.append(network)
    for theirs, ours in zip(*(n.parameters() for n in networks), strict=True):
        assert ours.requires_grad
        assert ours.is_leaf
        assert torch.equal(theirs, ours)


def test_refining_does_not_load_torchs_compiler():
    done = subprocess.run(
        [sys.executable, "-c", REFINES], text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
