"""Questions to the user: a box that waits for yes, and a panel that does not wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QMessageBox, QPushButton, QVBoxLayout, QWidget

from unet_studio.gui.notice import Notice
from unet_studio.images.limits import readable_size

if TYPE_CHECKING:
    from unet_studio.models.fetching import Offer


def confirm(parent: QWidget, title: str, text: str) -> bool:
    """Ask a question in plain text; whether it was answered with yes."""
    box = QMessageBox(parent)
    box.setWindowTitle(title)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setText(text)
    box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(QMessageBox.StandardButton.Cancel)
    answer = box.exec()
    box.deleteLater()
    return bool(answer == QMessageBox.StandardButton.Yes)


def small_button(text: str, tip: str) -> QPushButton:
    """Return a button that Enter does not press by itself."""
    button = QPushButton(text)
    button.setToolTip(tip)
    button.setAutoDefault(False)
    return button


class QuestionPanel(QWidget):
    """A question inside a window. It stays until it is answered or taken back.

    Nothing waits for it, and no key answers it by accident: it takes a press of its
    button to agree.
    """

    def __init__(self, yes: str, no: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._agreed: Callable[[], None] | None = None
        self._notice = Notice()
        self.yes = small_button(yes, "Agree.")
        self.no = small_button(no, "Leave everything as it is.")
        answers = QHBoxLayout()
        answers.addStretch(1)
        answers.addWidget(self.no)
        answers.addWidget(self.yes)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(self._notice)
        outer.addLayout(answers)
        self.yes.clicked.connect(self._on_yes)
        self.no.clicked.connect(self.take_back)
        self.hide()

    def ask(self, text: str, agreed: Callable[[], None]) -> None:
        """Show a question; ``agreed`` is called once if it is answered with yes."""
        self._agreed = agreed
        self._notice.show_message("warning", text)
        self.show()

    def text(self) -> str:
        """Return the question that is shown."""
        return self._notice.text()

    def take_back(self) -> None:
        """Hide the question; nothing is agreed to."""
        self._agreed = None
        self.hide()

    def _on_yes(self) -> None:
        agreed = self._agreed
        self.take_back()
        if agreed is not None:
            agreed()


def fetch_question(what: Offer) -> str:
    """Return what a user should know before a model is fetched."""
    entry = what.entry
    if what.here is not None:
        return f"{entry.name} will be made from {what.here}. Nothing is downloaded."
    lines = [
        f"Fetch {entry.name}?",
        "",
        f"From: {what.url}",
        f"Size: {f'about {readable_size(entry.size)}' if entry.size else 'unknown'}",
        f"Licence: {entry.licence}",
        f"Described at: {entry.source}" if entry.source else "",
        "Its content is checked against the published SHA-256."
        if entry.sha256 or entry.sha256_start
        else "Its SHA-256 is not known, so only the encrypted connection protects it.",
    ]
    return "\n".join(line for index, line in enumerate(lines) if line or index == 1)
