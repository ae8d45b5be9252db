"""How the parts of the window are put together, alike on every tab."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFormLayout, QGroupBox, QLayout, QProgressBar, QVBoxLayout, QWidget

_FRAME_PX = 10
_BETWEEN_PX = 8
_BAR_PX = 6


def stacked(widget: QWidget, *parts: QWidget, spacing: int = _BETWEEN_PX) -> QVBoxLayout:
    """Lay parts one below the other into a widget, up to its edges; ``spacing`` in pixels."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(spacing)
    for part in parts:
        layout.addWidget(part)
    return layout


def framed(box: QGroupBox, *parts: QWidget | QLayout) -> QGroupBox:
    """Lay parts one below the other into a box with a title, and return it."""
    layout = QVBoxLayout(box)
    layout.setContentsMargins(_FRAME_PX, _FRAME_PX, _FRAME_PX, _FRAME_PX)
    for part in parts:
        if isinstance(part, QWidget):
            layout.addWidget(part)
        else:
            layout.addLayout(part)
    return box


def form_layout(parent: QWidget) -> QFormLayout:
    """Return a form layout as all of our forms use it: fields fill the width, labels align."""
    layout = QFormLayout(parent)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
    layout.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    layout.setHorizontalSpacing(10)
    layout.setVerticalSpacing(6)
    return layout


def show_row(layout: QFormLayout, field: QWidget, visible: bool) -> None:
    """Show or hide a row of a form, label included (Qt 5 has no setRowVisible)."""
    field.setVisible(visible)
    label = layout.labelForField(field)
    if label is not None:
        label.setVisible(visible)


def thin_bar() -> QProgressBar:
    """Return a bar that shows how far the work is, without words."""
    bar = QProgressBar()
    bar.setTextVisible(False)
    bar.setFixedHeight(_BAR_PX)
    return bar
