"""Two ways in which drawing ends the process, and how not to come there.

**Two copies of LLVM**, the one in Mesa's OpenGL and the one in triton: once a window has
been drawn through a Mesa driver that uses LLVM (software rendering, AMD), importing triton
ends the process with a segmentation fault: its own LLVM gets mixed up with the one that is
loaded already. torch imports triton by the way, in places that have nothing to do with
compiling.

**Deleting in the wrong context**: when a layer goes, napari (since its pull request 8122)
deletes its buffers and programs at once, in whichever OpenGL context is current. While a
window is being painted that becomes Qt's own, and when the canvas draws next, Mesa ends
the process with a segmentation fault. On a busy computer it can be had at will.
"""

from __future__ import annotations

import sys
from pathlib import Path

from qtpy.QtWidgets import QMainWindow, QWidget

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


def enter_canvas(widget: QWidget) -> None:
    """Make the OpenGL context of napari's canvas the current one, if there is one.

    Parameters
    ----------
    widget : QWidget
        In napari's window, or in a dock of it.
    """
    window: QWidget | None = widget
    while window is not None and not isinstance(window, QMainWindow):
        window = window.parentWidget()
    central = window.centralWidget() if window is not None else None
    for child in central.findChildren(QWidget) if central is not None else ():
        if child.inherits("QOpenGLWidget") and child.isValid():
            child.makeCurrent()
            return
