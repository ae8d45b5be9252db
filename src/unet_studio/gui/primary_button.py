"""The one button of a tab that begins its work, and stops it."""

from __future__ import annotations

from qtpy.QtWidgets import QPushButton

CANCEL_TEXT, CANCELLING_TEXT = "Cancel", "Cancelling …"
_HEIGHT_PX = 32


class PrimaryButton(QPushButton):
    """Larger than others, and in the colour of napari's theme while it can be pressed.

    Parameters
    ----------
    text : str
    name : str
        By which style sheets and tests find it.
    theme : str
    """

    def __init__(self, text: str, name: str, theme: str) -> None:
        super().__init__(text)
        self.setObjectName(name)
        self.setMinimumHeight(_HEIGHT_PX)
        self.set_theme(theme)

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self.setStyleSheet(primary_style(theme))


def primary_style(theme_name: str) -> str:
    """Return the style sheet of a panel's one primary button."""
    from napari.utils.theme import get_theme

    theme = get_theme(theme_name)
    red, green, blue = theme.current.as_rgb_tuple()[:3]
    text = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "white"
    return (
        f"QPushButton:enabled {{ background-color: {theme.current.as_hex()}; color: {text};"
        " font-weight: 600; }"
        f"QPushButton:enabled:hover {{ background-color: {theme.highlight.as_hex()}; }}"
    )
