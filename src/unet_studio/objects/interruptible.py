"""Stop waiting for work that can not be stopped: one compiled call on millions of pixels."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

# A block takes less than a second; beyond, somebody who cancels would be kept waiting.
WAITS_FOR = 2**22
_POLL_SECONDS = 0.05


def run_interruptibly(
    work: Callable[[], Result], pixels: int, check: Callable[[], None]
) -> Result:
    """Do some work; if it is long, give up on it as soon as ``check`` raises.

    What is given up runs on, on a thread of its own, until its compiled call returns,
    and its result is dropped. It must change nothing that outlives it.

    Parameters
    ----------
    work : callable
    pixels : int
        What it looks at. Up to ``WAITS_FOR`` it is done here and now.
    check : callable
        Called again and again on the caller's thread; may raise to stop.

    Returns
    -------
    object
        What ``work`` returns. What it raises is raised.
    """
    if pixels <= WAITS_FOR:
        return work()
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # for the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True, name="unet-studio objects")
    thread.start()
    while thread.is_alive():
        check()
        thread.join(_POLL_SECONDS)
    if errors:
        raise errors[0]
    return results[0]
