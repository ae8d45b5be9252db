"""The boxes of forms: lists of choices that do not grow with their texts, and boxes to tick."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QCheckBox, QComboBox

_LEAST_LETTERS = 12


def choice_box(tooltip: str) -> QComboBox:
    """Make an empty list that stays narrow in a dock."""
    box = QComboBox()
    box.setToolTip(tooltip)
    keep_narrow(box)
    return box


def keep_narrow(box: QComboBox) -> None:
    """Let a list be narrower than its longest text."""
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(_LEAST_LETTERS)


def check_box(title: str, tooltip: str) -> QCheckBox:
    """Make a box to tick; a form shows its title beside it, a screen reader says it."""
    box = QCheckBox()
    box.setAccessibleName(title)
    box.setToolTip(tooltip)
    return box


def fill_box(box: QComboBox, entries: list[tuple[str, Any]], chosen: Any) -> None:
    """Put in (title, data) and select what was chosen, else the first, without a signal."""
    blocked = box.blockSignals(True)
    box.clear()
    for title, data in entries:
        box.addItem(title, data)
    # findData compares tuples by identity in some Qt bindings
    matching = [i for i, (_, data) in enumerate(entries) if data == chosen]
    box.setCurrentIndex(matching[0] if matching else 0)
    box.blockSignals(blocked)
