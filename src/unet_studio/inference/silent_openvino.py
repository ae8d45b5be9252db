"""OpenVINO, imported without a word to its makers."""

from __future__ import annotations

import sys
from functools import cache
from threading import Lock
from typing import Any

_REPORTER = "openvino_telemetry"
_importing = Lock()


def import_openvino() -> Any:
    """Return the package ``openvino``.

    Its import forks the process and reports itself over the network, unless what it
    reports with is not installed; so that is hidden from it meanwhile.
    """
    with _importing:
        if "openvino" not in sys.modules:
            there = sys.modules.pop(_REPORTER, None)
            sys.modules[_REPORTER] = None  # type: ignore[assignment]
            try:
                import openvino
            finally:
                del sys.modules[_REPORTER]
                if there is not None:
                    sys.modules[_REPORTER] = there
    import openvino

    return openvino


@cache
def openvino_core() -> Any:
    """Return the ``openvino.Core`` of this process: the first one, which is kept to its end.

    The first of them gives the calling thread another stack for signals, and the last one frees
    it, in whichever thread that happens. The next signal, Ctrl+C say, would then end the process.
    """
    return import_openvino().Core()
