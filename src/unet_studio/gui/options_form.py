"""A form for a frozen pydantic model: one row per field, one value out."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QSpinBox,
    QWidget,
)
from superqt import QLabeledDoubleSlider

from unet_studio.gui.layouts import form_layout, show_row

_INT_LIMIT = 1_000_000_000
_FLOAT_LIMIT = 1e9
# A range up to this is set with a slider, a wider one with a spin box.
_SLIDER_SPAN = 1.0


class OptionsForm(QWidget):
    """Edits one value: an instance of a pydantic model with plain fields.

    Limits come from ``ge`` and ``le``, tooltips from ``description``.

    Parameters
    ----------
    first : tuple of str and QWidget, optional
        Label and field of a row of the caller's own above, so that all align.
    *last : tuple of str and QWidget
        The same of rows below.
    """

    changed = Signal()

    def __init__(
        self,
        first: tuple[str, QWidget] | None = None,
        *last: tuple[str, QWidget],
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._model: type[BaseModel] | None = None
        self._editors: dict[str, QWidget] = {}
        self._layout = form_layout(self)
        for title, field in filter(None, (first, *last)):
            self._layout.addRow(title, field)
        self._above = 0 if first is None else 1

    def set_model(self, model: type[BaseModel]) -> None:
        """Show the fields of another model, at their defaults."""
        for old in self._editors.values():
            self._layout.removeRow(old)
        self._model = model
        self._editors = editors_for(model)
        for row, editor in enumerate(self._editors.values(), start=self._above):
            changed_signal(editor).connect(self._emit)
            self._layout.insertRow(row, editor.accessibleName(), editor)
            label = self._layout.labelForField(editor)
            if label is not None:
                label.setToolTip(editor.toolTip())
        self.changed.emit()

    def value(self) -> BaseModel:
        """Return what the form shows, as the model."""
        assert self._model is not None, "set_model comes first"
        return self._model(**{name: read(editor) for name, editor in self._editors.items()})

    def set_value(self, value: BaseModel) -> None:
        """Show a value; ``changed`` is emitted once."""
        if type(value) is not self._model:
            self.set_model(type(value))
        for name, editor in self._editors.items():
            write_silently(editor, getattr(value, name))
        self.changed.emit()

    def editor(self, name: str) -> QWidget:
        """Return the editor of a field."""
        return self._editors[name]

    def show_row(self, field: QWidget, visible: bool) -> None:
        """Show or hide one of the caller's own rows."""
        show_row(self._layout, field, visible)

    def _emit(self, _value: object = None) -> None:
        self.changed.emit()


def _label(name: str, info: FieldInfo) -> str:
    return info.title or name.replace("_", " ").capitalize()


def _limits(info: FieldInfo) -> tuple[float | None, float | None]:
    low = high = None
    for item in info.metadata:
        if isinstance(item, annotated_types.Ge):
            low = item.ge
        elif isinstance(item, annotated_types.Le):
            high = item.le
    return low, high


def _editor_for(info: FieldInfo) -> QWidget | None:
    kind, (low, high), default = info.annotation, _limits(info), info.default
    editor: QWidget
    if kind is bool:
        editor = QCheckBox()
    elif kind is int:
        editor = QSpinBox()
        editor.setRange(
            -_INT_LIMIT if low is None else int(low), _INT_LIMIT if high is None else int(high)
        )
    elif kind is float and low is not None and high is not None and high - low <= _SLIDER_SPAN:
        editor = QLabeledDoubleSlider(Qt.Orientation.Horizontal)
        editor.setRange(low, high)
        editor.setSingleStep((high - low) / 100)
        editor.setDecimals(2)
        editor.setMinimumWidth(120)
    elif kind is float:
        editor = QDoubleSpinBox()
        editor.setRange(
            -_FLOAT_LIMIT if low is None else low, _FLOAT_LIMIT if high is None else high
        )
        editor.setDecimals(2)
        editor.setSingleStep(0.1)
    elif get_origin(kind) is Literal:
        editor = QComboBox()
        for choice in get_args(kind):
            editor.addItem(str(choice), choice)
    else:
        return None  # the field keeps its default
    if isinstance(editor, QSpinBox | QDoubleSpinBox):
        editor.setKeyboardTracking(False)
    _write(editor, default)
    return editor


def editors_for(model: type[BaseModel]) -> dict[str, QWidget]:
    """Return an editor for each plain field of a model, at its default.

    Tooltips say what a field means; its name for people is the accessible name.
    """
    editors = {}
    for name, info in model.model_fields.items():
        editor = _editor_for(info)
        if editor is not None:
            editor.setToolTip(info.description or "")
            editor.setAccessibleName(_label(name, info))
            editors[name] = editor
    return editors


def changed_signal(editor: QWidget) -> Any:
    """Return the signal that an editor's value changed."""
    if isinstance(editor, QCheckBox):
        return editor.toggled
    return editor.currentIndexChanged if isinstance(editor, QComboBox) else editor.valueChanged


def read(editor: Any) -> Any:
    """Return an editor's value."""
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    if isinstance(editor, QComboBox):
        return editor.currentData()
    # A slider's steps leave traces such as 0.30000000000000004.
    return round(editor.value(), 6) if isinstance(editor.value(), float) else editor.value()


def write_silently(editor: QWidget, value: Any) -> None:
    """Show a value in an editor, without a signal."""
    blocked = editor.blockSignals(True)
    _write(editor, value)
    editor.blockSignals(blocked)


def _write(editor: Any, value: Any) -> None:
    if isinstance(editor, QCheckBox):
        editor.setChecked(bool(value))
    elif isinstance(editor, QComboBox):
        editor.setCurrentIndex(max(0, editor.findData(value)))
    else:
        editor.setValue(value)
