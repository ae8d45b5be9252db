"""The process that does a batch, as the window sees it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QProcess, Signal

if TYPE_CHECKING:
    from unet_studio.batch.talk import Order

# "-P": a file called like a module of ours in the user's folder is none.
COMMAND = (sys.executable, "-P", "-m", "unet_studio.batch.talk")
LAST = ("ended", "cancelled", "error")
# How long the end of the window waits for a cancelled batch; it may be killed then.
_GRACE_MS = 1500
_KEPT_ERRORS = 4000


class BatchProcess(QObject):
    """Starts :mod:`unet_studio.batch.talk`, passes on what it tells, and cancels it.

    Nothing is waited for: Qt says when something has come. A batch may be killed at any
    moment without harm, so this is what happens to one that does not end by itself.
    """

    told = Signal(list)  # of dict: what came since the last time
    ended = Signal(dict)  # the last line, or {"event": "died", "reason": …}; exactly once

    def __init__(self, parent: QObject, command: tuple[str, ...] = COMMAND) -> None:
        super().__init__(parent)
        self._command = command
        self._process: QProcess | None = None
        self._torn = b""
        self._errors = b""
        self._last: dict[str, Any] = {}
        self.cancelling = False

    @property
    def running(self) -> bool:
        """Whether the end has not been told yet."""
        return self._process is not None

    def start(self, order: Order) -> None:
        """Start; an order that is being done is abandoned."""
        self.abandon()
        self._torn = self._errors = b""
        self._last, self.cancelling = {}, False
        process = self._process = QProcess(self)
        process.setProgram(self._command[0])
        process.setArguments(list(self._command[1:]))
        process.readyReadStandardOutput.connect(self._read)
        process.readyReadStandardError.connect(self._read_errors)
        process.finished.connect(self._on_finished)
        process.errorOccurred.connect(self._on_error)
        process.start()
        process.write(order.line())

    def cancel(self) -> None:
        """Ask it to stop at the next tile or block. ``ended`` follows."""
        if self._process is not None and not self.cancelling:
            self.cancelling = True
            self._process.closeWriteChannel()

    def abandon(self, *, kill: bool = False) -> None:
        """Stop it, and report nothing any more; ``kill`` what writes nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        for signal in (
            process.readyReadStandardOutput, process.readyReadStandardError,
            process.finished, process.errorOccurred,
        ):  # fmt: skip
            signal.disconnect()
        # The end of a process that nobody listens to any more removes it.
        process.finished.connect(process.deleteLater)
        process.closeWriteChannel()
        if kill:
            process.kill()

    def shut_down(self) -> None:
        """Stop it because the window closes: wait a moment, then kill it."""
        self.abandon()
        for one in self.findChildren(QProcess):
            if one.state() == QProcess.ProcessState.NotRunning:
                continue
            if not one.waitForFinished(_GRACE_MS):
                one.kill()
                one.waitForFinished(_GRACE_MS)

    def _read(self) -> None:
        process = self._process
        if process is None:
            return
        lines = (self._torn + bytes(process.readAllStandardOutput())).split(b"\n")
        self._torn = lines.pop()
        events = [json.loads(line) for line in lines if line]
        if events and events[-1].get("event") in LAST:
            self._last = events.pop()
        if events:
            self.told.emit(events)

    def _read_errors(self) -> None:
        if self._process is not None:
            self._errors += bytes(self._process.readAllStandardError())
            self._errors = self._errors[-_KEPT_ERRORS:]

    def _on_error(self, error: QProcess.ProcessError) -> None:
        if error == QProcess.ProcessError.FailedToStart and self._process is not None:
            reason = (
                f"{self._command[0]} can not be started: {self._process.errorString()}. Start "
                "napari again; if that does not help, install the package again."
            )
            self._end({"event": "died", "reason": reason})

    def _on_finished(self, code: int, _status: Any = None) -> None:
        self._read()
        self._read_errors()
        if self._last:
            self._end(self._last)
            return
        lines = self._errors.decode(errors="replace").strip().splitlines()
        why = f" ({lines[-1].strip()})" if lines else ""
        self._end(
            {
                "event": "died",
                "reason": f"The batch ended unexpectedly, with code {code}{why}. What it had done "
                "is complete; run it again to go on.",
            }
        )

    def _end(self, last: dict[str, Any]) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.deleteLater()
        self.ended.emit(last)
