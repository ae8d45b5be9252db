"""A run's progress bar in napari's activity dock, with a Cancel button that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from napari.utils.progress import cancelable_progress

from unet_studio.events import Event, Started, TileDone


class RunProgress(cancelable_progress):
    """napari shows Cancel for this class only, and by itself merely sets a flag.

    Parameters
    ----------
    description : str
    on_cancel : callable
        Called, without arguments, when Cancel is pressed.
    """

    def __init__(self, description: str, on_cancel: Callable[[], Any]) -> None:
        self._on_cancel: Callable[[], Any] | None = on_cancel
        self._description = description
        super().__init__(total=0, desc=description)

    def cancel(self) -> None:
        """Stop the run, not only the bar."""
        super().cancel()
        if self._on_cancel is not None:
            self._on_cancel()

    def show_event(self, event: Event) -> None:
        """Draw one event of the engine."""
        if isinstance(event, Started):
            self.set_description(f"{self._description}: {event.stage}")
            self._restart(event.total)
        elif isinstance(event, TileDone):
            if self.total != event.total:
                self._restart(event.total)
            if event.done > self.n:
                self.update(event.done - self.n)

    def close(self) -> None:
        """Remove the bar."""
        self._on_cancel = None
        super().close()

    def _restart(self, total: int) -> None:
        self.reset(total=total or None)
        self.total = total
        self.events.value(value=0)
