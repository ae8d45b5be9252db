"""Work on models, one piece at a time: what came of it, and consent where a model is a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QWidget

from unet_studio.errors import ConsentNeeded
from unet_studio.gui.asking import QuestionPanel
from unet_studio.gui.notice import Notice
from unet_studio.gui.work_bar import Work, WorkBar
from unet_studio.models.consent import RISK, allow_file, needs_consent
from unet_studio.models.importing import ALLOW, Imported
from unet_studio.models.store import ModelEntry


class ModelWork(QObject):
    """Gets models into the store and asks for consent; its widgets are laid out by its owner.

    Parameters
    ----------
    parent : QWidget

    Attributes
    ----------
    bar : WorkBar
    notice : Notice
        What came of the work.
    consent : QuestionPanel
    """

    created = Signal(str)  # name of a new model
    busy_changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.bar, self.notice = WorkBar(), Notice()
        self.consent = QuestionPanel("I trust its makers: allow", "Do not allow")
        # What is imported, and how it is done once more with consent.
        self._what = ""
        self._again: Callable[[], None] | None = None
        self.bar.ended.connect(self.busy_changed)
        self.bar.warned.connect(self._on_warned)
        self.bar.failed.connect(self._on_failed)
        self.bar.cancelled.connect(self._on_cancelled)

    def start(self, doing: str, work: Work, done: Callable[[Any], None]) -> None:
        """Start some work, unless there is some; see :meth:`WorkBar.start`."""
        self.notice.show_message("info", "")
        self.consent.take_back()
        self.bar.start(doing, work, done)
        self.busy_changed.emit()

    def bring(self, what: str, how: str, bring: Callable[..., Imported]) -> None:
        """Get a model into the store; again, with consent, if it turns out to need it.

        Parameters
        ----------
        what : str
            Its name or file.
        how : str
            "Fetching" or "Importing".
        bring : callable
            Takes ``options``, ``token`` and ``tell``.
        """

        def start(options: dict[str, str]) -> None:
            self.start(
                f"{how} {what}",
                lambda token, tell: _with_consent(bring(options=options, token=token, tell=tell)),
                self._on_imported,
            )

        self._what, self._again = what, lambda: start({ALLOW: "yes"})
        start({})

    def ask_consent(self, entry: ModelEntry) -> None:
        """Ask whether a model that is a program may run, unless that was allowed before."""

        def show(needed: bool) -> None:
            if needed:
                self._ask_consent(entry)
            else:
                self.notice.show_message("good", f"{entry.name} may run already.")

        self.start(f"Looking at {entry.name}", lambda token, tell: needs_consent(entry.path), show)

    def _ask_consent(self, entry: ModelEntry) -> None:
        def allow() -> None:
            self.start(
                f"Allowing {entry.name}",
                lambda token, tell: allow_file(entry.path, entry.name),
                lambda _: self._on_allowed(entry),
            )

        self.consent.ask(f"{entry.name} is TorchScript. {RISK}", allow)

    def _on_allowed(self, entry: ModelEntry) -> None:
        self.notice.show_message(
            "good", f"{entry.name} may run from now on: exactly the file that it is now."
        )

    def _on_imported(self, result: tuple[Imported, bool]) -> None:
        imported, doubtful = result
        entry = imported.entry
        text = " ".join([f"{entry.name} is ready.", *imported.notes])
        warned = any(note.startswith("Warning") for note in imported.notes)
        self.notice.show_message("warning" if warned else "good", text)
        self.created.emit(entry.name)
        if doubtful:
            self._ask_consent(entry)

    def _on_warned(self, text: str) -> None:
        self.notice.show_message("warning", text)

    def _on_failed(self, text: str, error: BaseException) -> None:
        if isinstance(error, ConsentNeeded) and self._again is not None:
            self.consent.ask(f"{self._what} runs only as TorchScript. {RISK}", self._again)
        else:
            self.notice.show_message("error", text)

    def _on_cancelled(self, doing: str) -> None:
        self.notice.show_message("info", f"{doing} was cancelled.")


def _with_consent(imported: Imported) -> tuple[Imported, bool]:
    """Return what was imported, and whether the user has to agree before it runs."""
    return imported, needs_consent(imported.entry.path)
