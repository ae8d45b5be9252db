"""AdamW as torch has it, but for torch's compiler, which it loads and does not use here."""

from __future__ import annotations

import inspect

import torch


class AdamW(torch.optim.AdamW):
    """Torch's AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101), ready two seconds earlier.

    Torch wraps these methods in ones that keep its compiler from compiling them. They load
    the compiler for that, which takes seconds, and stops a window that is open meanwhile.
    """

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.AdamW.zero_grad)
    # The wrapper of this one also turns gradients off.
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))
