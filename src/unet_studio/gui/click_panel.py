"""The buttons of a session of clicks: what the keys do, for those who look for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from unet_studio.gui.click_pointer import KEYS, MOUSE, shown_key
from unet_studio.gui.layouts import thin_bar

if TYPE_CHECKING:
    from unet_studio.gui.clicking import Clicking

# Title, method of Actions, whether it stays pressed, tooltip.
_BUTTONS: tuple[tuple[str, str, bool, str], ...] = (
    ("Negative", "toggle_polarity", True, "Clicks mark what is not part of the object."),
    ("Box", "draw_box", False, "Draw a box around the object: it is found within."),
    ("Stroke", "draw_stroke", False, "Draw a stroke on the object, or beside it."),
    ("Commit", "commit", False, "Put the object into the labels, as a new or corrected one."),
    ("Undo", "undo", False, "Take back what was done last: a click, a commit, a propagation."),
    ("Redo", "redo", False, "Do again what was taken back."),
    ("Reset", "reset", False, "Drop the object; labels stay as they are."),
    (
        "Correct", "choose_correct", True,
        "The next click takes the object of the labels under the cursor; clicks correct it, and "
        "a commit replaces it.",
    ),
    (
        "Pick", "choose_pick", True,
        "The next click takes the object of the Segment result under the cursor: that model's "
        "object, which clicks correct.",
    ),
    ("Erase", "choose_erase", True, "The next click erases an object of the labels."),
)  # fmt: skip
_COLUMNS = 3
_WORDS = {"Z": "slices", "T": "frames"}


class ClickPanel(QWidget):
    """Shows what can be done in a session, and does it."""

    save_wanted = Signal()
    learn_wanted = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._clicking: Clicking | None = None
        self.buttons: dict[str, QPushButton] = {}
        keys = {method: keys[0] for keys, method, _ in KEYS}
        grid = QGridLayout()
        grid.setSpacing(4)
        for place, (title, method, checkable, tooltip) in enumerate(_BUTTONS):
            button = QPushButton(title)
            button.setCheckable(checkable)
            button.setToolTip(f"{tooltip} Key: {shown_key(keys[method])}.")
            button.clicked.connect(self._caller(method))
            self.buttons[method] = button
            row, column = divmod(place + (place > 6), _COLUMNS + 1)
            grid.addWidget(button, row, column)
        self.next_button = QPushButton("Next")
        self.next_button.setToolTip("Commit, and go on with a new object. Key: N.")
        self.next_button.clicked.connect(self._caller("next_object"))
        self.buttons["next_object"] = self.next_button
        grid.addWidget(self.next_button, 1, 3)
        self.stats = QLabel()
        self.stats.setTextFormat(Qt.TextFormat.PlainText)
        self.stats.setWordWrap(True)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(6)
        outer.addWidget(self.stats)
        outer.addLayout(grid)
        outer.addWidget(self._propagation())
        outer.addLayout(self._files())
        outer.addWidget(shortcuts())

    def serve(self, clicking: Clicking | None) -> None:
        """Serve this session from now on; None for none."""
        self._clicking = clicking
        axes = "" if clicking is None else clicking.source.axes
        stacked = [axis for axis in "ZT" if axis in axes]
        self.axis_box.clear()
        for axis in stacked:
            self.axis_box.addItem(_WORDS[axis].capitalize(), axis)
        self.axis_box.setVisible(len(stacked) > 1)
        self.planes.setVisible(bool(stacked))
        self.refresh()

    def refresh(self) -> None:
        """Show what the session is like now."""
        clicking = self._clicking
        if clicking is None:
            return
        state = clicking.state
        pressed = {
            "toggle_polarity": not clicking.actions.positive,
            "choose_correct": clicking.actions.tool == "correct",
            "choose_pick": clicking.actions.tool == "pick",
            "choose_erase": clicking.actions.tool == "erase",
        }
        for method, down in pressed.items():
            self.buttons[method].setChecked(down)
        there = state is not None and bool(state.planes)
        busy = clicking.desk.busy
        for method in ("commit", "next_object"):
            self.buttons[method].setEnabled(there or busy)
        self.buttons["undo"].setEnabled(busy or (state is not None and bool(state.undo)))
        self.buttons["redo"].setEnabled(busy or (state is not None and bool(state.redo)))
        going = clicking.propagating
        self.propagate_button.setText("Cancel" if going else "Propagate")
        self.propagate_button.setEnabled(going or there)
        self.bar.setVisible(going)
        if not going:
            self.count.setText("")
        self.learn_button.setEnabled(clicking.counted > 0)
        self.stats.setText(self._said(clicking))

    def _said(self, clicking: Clicking) -> str:
        state = clicking.state
        parts = [f"{clicking.counted:,} object{'s' * (clicking.counted != 1)}"]
        if state is not None:
            marks = [m for p in state.pointed for m in p.clicks]
            positive = sum(m.positive for m in marks)
            if marks:
                parts.append(f"{positive} positive, {len(marks) - positive} negative")
            if clicking.actions.last_ms:
                parts.append(f"last click {clicking.actions.last_ms:.0f} ms")
            if state.replaces:
                parts.append(f"corrects object {state.replaces}")
            if state.proposal.corrected:
                parts.append("put right to keep to the clicks")
        return " · ".join(parts)

    def _propagation(self) -> QWidget:
        self.planes = QWidget()
        self.axis_box = QComboBox()
        self.axis_box.setToolTip("Along what the object is followed.")
        self.most = QSpinBox()
        self.most.setRange(0, 9999)
        self.most.setSpecialValueText("until it ends")
        self.most.setSuffix(" each way")
        self.most.setToolTip("At most so many slices or frames in each direction.")
        self.propagate_button = QPushButton("Propagate")
        self.propagate_button.setToolTip(
            "Follow the object to neighbouring slices or frames until it ends. One step to undo."
        )
        self.propagate_button.clicked.connect(self._propagate_or_cancel)
        self.bar = thin_bar()
        self.bar.setRange(0, 0)
        self.count = QLabel()
        line = QHBoxLayout()
        line.setContentsMargins(0, 0, 0, 0)
        for widget in (self.propagate_button, self.axis_box, self.most, self.count):
            line.addWidget(widget)
        line.addStretch(1)
        inside = QVBoxLayout(self.planes)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.addLayout(line)
        inside.addWidget(self.bar)
        self.bar.hide()
        return self.planes

    def show_planes(self, count: int) -> None:
        """Show how far a propagation is."""
        self.count.setText(f"{count} done")

    def _files(self) -> QHBoxLayout:
        self.learn_button = QPushButton("Learn from objects")
        self.learn_button.setToolTip(
            "Make annotations of whole objects from the objects that were committed, in a layer "
            "of their own: Refine learns from it."
        )
        self.learn_button.clicked.connect(self.learn_wanted)
        self.save_button = QPushButton("Save journal …")
        self.save_button.setToolTip(
            "Save all that was done as a text file, which can be restored and replayed."
        )
        self.save_button.clicked.connect(self.save_wanted)
        line = QHBoxLayout()
        line.addWidget(self.learn_button)
        line.addWidget(self.save_button)
        return line

    def _propagate_or_cancel(self) -> None:
        if self._clicking is None:
            return
        if self._clicking.propagating:
            self._clicking.desk.cancel()
        else:
            axis, most = self.axis_box.currentData(), self.most.value()
            self._clicking.actions.propagate(axis, most or None)

    def _caller(self, method: str) -> object:
        def call(_checked: bool = False) -> None:
            if self._clicking is not None:
                getattr(self._clicking.actions, method)()
                self.refresh()

        return call


def shortcuts() -> QCollapsible:
    """Return the list of what mouse and keys do, folded."""
    lines = [(how, what) for how, what in MOUSE]
    lines += [(" or ".join(map(shown_key, keys)), what) for keys, _, what in KEYS]
    rows = "".join(
        f"<tr><td><b>{how}</b>&nbsp;&nbsp;</td><td>{what}</td></tr>" for how, what in lines
    )
    text = QLabel(f"<table>{rows}</table>")
    text.setTextFormat(Qt.TextFormat.RichText)
    text.setWordWrap(True)
    box = QCollapsible("Mouse and keys (in the layer of the clicks)")
    box.setDuration(0)
    box.addWidget(text)
    return box
