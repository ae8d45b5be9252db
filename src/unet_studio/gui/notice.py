"""A message inside the widget: text with a coloured edge that tells how serious it is."""

from __future__ import annotations

from typing import Literal

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

Severity = Literal["info", "good", "warning", "error"]


class Notice(QLabel):
    """Plain text (a layer's name may hold markup), wrapped, coloured after napari's theme."""

    def __init__(self, theme: str = "dark", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._severity: Severity = "info"
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setWordWrap(True)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.show_message("info", "")

    @property
    def severity(self) -> Severity:
        """How serious the message is."""
        return self._severity

    def show_message(self, severity: Severity, text: str) -> None:
        """Show a message; an empty one hides the widget."""
        self._severity = severity
        self.setText(text)
        self.setVisible(bool(text))
        self._paint()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self._theme = theme
        self._paint()

    def _paint(self) -> None:
        from napari.utils.theme import get_theme

        theme = get_theme(self._theme)
        edge = {
            "info": theme.highlight,
            "good": theme.current,
            "warning": theme.warning,
            "error": theme.error,
        }[self._severity]
        self.setStyleSheet(
            f"QLabel {{ border-left: 3px solid {edge.as_hex()}; padding: 3px 2px 3px 8px;"
            " background: transparent; }"
        )
