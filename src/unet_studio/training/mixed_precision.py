"""Where a training computes in numbers of half the width."""

from __future__ import annotations

import torch

# What processors call their instructions for it (x86; those of ARM are told apart by torch's
# library, which has no word for them here).
_INSTRUCTIONS = ("avx512_bf16", "amx_bf16")


def is_quicker_in_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 quicker than float32.

    Elsewhere torch computes in float32 all the same, and converts there and back. Weights and
    their averages are float32 in any case.

    Parameters
    ----------
    device : torch.device
    """
    if device.type != "cpu":
        return device.type == "cuda"
    # Of newer versions of torch; without it nothing is known.
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask is not None else {}
    return any(found.get(name, False) for name in _INSTRUCTIONS)
