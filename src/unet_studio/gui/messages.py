"""What the user is told when something goes wrong: what, where, why, what next."""

from __future__ import annotations

import html
import logging
from typing import TYPE_CHECKING

from unet_studio.errors import UNetStudioError
from unet_studio.gui.worker import Failure

if TYPE_CHECKING:
    from unet_studio.gui.notice import Notice

_LOG = logging.getLogger("unet_studio.gui")


def describe(failure: Failure, doing: str) -> str:
    """Return the sentence a user reads; the traceback goes to the log.

    Parameters
    ----------
    failure : Failure
    doing : str
        What was attempted, on what, as a noun phrase ("Segmenting 'cells' with nuclei").
    """
    error = failure.error
    if isinstance(error, UNetStudioError):
        return str(error) or f"{doing} failed ({type(error).__name__}). Nothing was changed."
    _LOG.error("%s failed\n%s", doing, failure.details)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            f"{doing} ran out of memory ({_short(error)}). Nothing was changed. Close other "
            "programs, choose the device 'cpu', or segment a part of the image."
        )
    return (
        f"{doing} failed: {_short(error)}. Nothing was changed. Try once more; if it fails "
        "again, report it with the traceback in the terminal."
    )


def _short(error: BaseException) -> str:
    """Return an error's type and its first line; never an empty text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def notify_error(message: str) -> None:
    """Show one error notification."""
    from napari.utils.notifications import show_error

    show_error(message)


def tell_failure(notice: Notice, message: str) -> None:
    """Show an error beside what was asked for, and as a notification."""
    notice.show_message("error", message)
    notify_error(message)


def notify_warning(message: str) -> None:
    """Show one warning notification."""
    from napari.utils.notifications import show_warning

    show_warning(message)


def plain_tooltip(text: str) -> str:
    """Return a tooltip that shows a text as it is: Qt would follow markup in it."""
    return f"<p>{html.escape(text).replace(chr(10), '<br>')}</p>"
