"""Keep two copies of LLVM apart: the one in Mesa's OpenGL and the one in triton.

Once a window has been drawn through a Mesa driver that uses LLVM (software
rendering, AMD), importing triton ends the process with a segmentation fault:
its own LLVM gets mixed up with the one that is loaded already. torch imports
triton by the way, in places that have nothing to do with compiling.
"""

from __future__ import annotations

import sys
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def block_triton_if_it_would_crash() -> bool:
    """Make ``import triton`` fail cleanly where it would end the process.

    torch then goes without it, which only ``torch.compile`` on a GPU notices.

    Returns
    -------
    bool
        Whether it is blocked.
    """
    if "triton" in sys.modules:  # loaded before the window, which is harmless, or blocked
        return sys.modules["triton"] is None
    try:
        mesa_uses_llvm = "libLLVM" in _MAPS.read_text()
    except OSError:  # not Linux
        return False
    if mesa_uses_llvm:
        sys.modules["triton"] = None  # type: ignore[assignment]
    return mesa_uses_llvm
