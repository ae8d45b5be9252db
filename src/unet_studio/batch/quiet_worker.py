"""Loaded by dask into the workers that we start: Ctrl+C is a matter of who started them."""

from __future__ import annotations

import signal
import threading
from typing import Any


def dask_setup(worker: Any) -> None:
    """Ignore Ctrl+C. A terminal sends it to all processes; the first one ends the others."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
