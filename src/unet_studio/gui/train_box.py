"""The lower half of the Refine tab: how to train, how it goes, and how to end it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QComboBox,
    QGroupBox,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QWidget,
)

from unet_studio.events import Started, Trained
from unet_studio.gui.curve import TrainingCurve
from unet_studio.gui.layouts import form_layout, framed, thin_bar
from unet_studio.gui.notice import Notice
from unet_studio.gui.primary_button import PrimaryButton

if TYPE_CHECKING:
    from unet_studio.events import Event
    from unet_studio.models.card import ModelCard

TRAIN, STOP, STOPPING = "Train", "Stop and keep", "Stopping …"
_MOST_SECONDS = 24 * 3600


class TrainBox(QGroupBox):
    """Edits how to train, and shows a training that is going."""

    asked = Signal()  # the primary button
    cancel_asked = Signal()

    def __init__(self, theme: str = "dark", parent: QWidget | None = None) -> None:
        super().__init__("Train", parent)
        self.classes = QLineEdit()
        self.classes.setToolTip(
            "Leave empty to refine what the model finds. A name, such as mitochondrion, makes "
            "a model of something else out of it; several, background first and separated by "
            "commas, make a model of classes."
        )
        self.start = QComboBox()
        self.start.addItem("Original model, all strokes", "base")
        self.start.addItem("Current version", "current")
        self.start.setToolTip(
            "The original with all strokes keeps most of what it knew, and learns what the model "
            "on whose result you painted finds where you did not paint. Going on from the current "
            "version is quicker after few new strokes."
        )
        self.seconds = QSpinBox()
        self.seconds.setRange(5, _MOST_SECONDS)
        self.seconds.setValue(60)
        self.seconds.setSuffix(" s")
        self.seconds.setKeyboardTracking(False)
        self.seconds.setToolTip("How long to train. A minute on a CPU, seconds on a GPU, do.")
        self.run_button = PrimaryButton(TRAIN, "unet-studio-train", theme)
        self.cancel = QPushButton("Cancel")
        self.cancel.setToolTip("Stop, and keep nothing.")
        self.bar = thin_bar()
        self.curve = TrainingCurve(theme)
        self.summary = Notice(theme)
        form_widget = QWidget()
        form = form_layout(form_widget)
        form.addRow("Finds", self.classes)
        form.addRow("Start from", self.start)
        form.addRow("Time", self.seconds)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run_button, 1)
        buttons.addWidget(self.cancel)
        framed(self, form_widget, buttons, self.bar, self.curve, self.summary)
        self.run_button.clicked.connect(self.asked)
        self.cancel.clicked.connect(self.cancel_asked)
        self.curve.hide()
        self.set_theme(theme)
        self.show_state(False, False, True)

    def class_names(self) -> tuple[str, ...] | None:
        """Return the names of other classes to find, None to keep the model's."""
        names = tuple(filter(None, (n.strip() for n in self.classes.text().split(","))))
        return names or None

    def set_card(self, card: ModelCard | None) -> None:
        """Say what a model finds now."""
        names = [] if card is None else card.classes[card.representation == "classes" :]
        self.classes.setPlaceholderText(", ".join(names) or "as the model")

    def begin(self) -> None:
        """Get ready to show a new training."""
        self.curve.clear()
        self.curve.show()
        self.bar.setRange(0, 0)
        self.summary.show_message("info", "Starting …")

    def show_event(self, event: Event) -> None:
        """Show how far the training is."""
        if isinstance(event, Started):
            self.bar.setRange(0, event.total)
            self.summary.show_message("info", f"{event.stage.capitalize()} …")
        elif isinstance(event, Trained):
            self.bar.setRange(0, event.steps)
            self.bar.setValue(event.step)
            self.curve.add(event.step, event.steps, event.loss, event.score)
            left = f" · {event.seconds_left:.0f} s left" if event.seconds_left >= 1 else ""
            of = f" of {event.steps}" if event.steps else ""
            self.summary.show_message("info", f"Step {event.step}{of}{left}")

    def show_state(self, running: bool, ending: bool, possible: bool) -> None:
        """Show what the buttons do now."""
        self.run_button.setText((STOPPING if ending else STOP) if running else TRAIN)
        self.run_button.setEnabled(not ending if running else possible)
        self.run_button.setToolTip(
            "End here; the best weights so far are judged and kept."
            if running
            else "Learn from what is painted (Ctrl+Shift+U)."
        )
        self.cancel.setVisible(running)
        self.bar.setVisible(running)
        for field in (self.classes, self.start, self.seconds):
            field.setEnabled(not running)

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self.summary.set_theme(theme)
        self.curve.set_theme(theme)
        self.run_button.set_theme(theme)
