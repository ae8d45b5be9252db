"""Before and after: the guard's verdict, a swipe between both models, and the decision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QWidget,
)

from unet_studio.gui.layouts import framed
from unet_studio.gui.notice import Notice, Severity
from unet_studio.gui.primary_button import primary_style

if TYPE_CHECKING:
    from unet_studio.gui.refine_run import RefineResult
    from unet_studio.training.guard import Verdict

_STEPS = 200
_SEVERITIES: dict[str, Severity] = {
    "better": "good", "worse": "error", "too little to judge": "warning",
}  # fmt: skip


class VerdictCard(QGroupBox):
    """Shown after a training until its model is adopted or put aside."""

    adopted = Signal()
    declined = Signal()
    swiped = Signal(float)  # position of the edge, range [0, 1]

    def __init__(self, theme: str = "dark", parent: QWidget | None = None) -> None:
        super().__init__("Before and after", parent)
        self.numbers = QLabel()
        self.numbers.setTextFormat(Qt.TextFormat.PlainText)
        self.numbers.setWordWrap(True)
        self.notice = Notice(theme)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, _STEPS)
        self.slider.setToolTip("Left of the edge the new model is shown, right of it the old one.")
        self.adopt = QPushButton()
        self.keep_old = QPushButton("Keep old")
        self.keep_old.setToolTip("Go on with the old model. The new one stays in the versions.")
        self._swipe = QWidget()
        line = QHBoxLayout(self._swipe)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(QLabel("new"))
        line.addWidget(self.slider, 1)
        line.addWidget(QLabel("old"))
        buttons = QHBoxLayout()
        buttons.addWidget(self.adopt, 1)
        buttons.addWidget(self.keep_old, 1)
        framed(self, self.numbers, self.notice, self._swipe, buttons)
        self.slider.valueChanged.connect(lambda value: self.swiped.emit(value / _STEPS))
        self.adopt.clicked.connect(self.adopted)
        self.keep_old.clicked.connect(self.declined)
        self._theme = theme
        self._good = False
        self.hide()

    def show_result(self, result: RefineResult) -> None:
        """Show how a new model compares with the one it came from."""
        verdict = result.refined.verdict
        self._good = verdict.adopted
        self.numbers.setText(in_numbers(verdict))
        self.notice.show_message(_SEVERITIES[verdict.finding], _sentence(verdict))
        self._swipe.setVisible(result.before is not None)
        self.slider.blockSignals(True)
        self.slider.setValue(_STEPS)
        self.slider.blockSignals(False)
        self.adopt.setText("Adopt" if verdict.finding != "worse" else "Adopt anyway")
        self.adopt.setToolTip(
            "Use the new model from now on: it is chosen above, and Segment uses it at once. "
            "One click goes back."
        )
        self.set_theme(self._theme)
        self.show()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self._theme = theme
        self.notice.set_theme(theme)
        self.adopt.setStyleSheet(primary_style(theme) if self._good else "")


def in_numbers(verdict: Verdict) -> str:
    """Return the numbers of a verdict, one line each; no score where there is none."""
    lines = []
    if verdict.old is not None and verdict.new is not None:
        lines.append(
            f"Held-back strokes right: {100 * verdict.old:.0f} % → {100 * verdict.new:.0f} % "
            f"({verdict.regions} strokes)"
        )
    else:
        lines.append("Held-back strokes: none, so there is no score")
    if verdict.kept is not None:
        lines.append(f"Kept of what the old model was sure of: {100 * verdict.kept:.0f} %")
    if verdict.agreement is not None:
        lines.append(f"Agreement on the sample images: {100 * verdict.agreement:.0f} %")
    return "\n".join(lines)


def _sentence(verdict: Verdict) -> str:
    word = {"better": "Better.", "worse": "Worse.", "too little to judge": "Not proven."}
    return f"{word[verdict.finding]} {verdict.reason}"
