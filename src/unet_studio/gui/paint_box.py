"""The upper half of the Refine tab: what to paint on, with which brush."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QComboBox,
    QGridLayout,
    QGroupBox,
    QPushButton,
    QWidget,
)

from unet_studio.gui.canvas import COLOURS, Kind
from unet_studio.gui.input_form import InputForm
from unet_studio.gui.layouts import framed
from unet_studio.gui.notice import Notice
from unet_studio.training.annotations import BACKGROUND

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.models.card import ModelCard

_KINDS: tuple[tuple[str, Kind, str], ...] = (
    (
        "Strokes of classes", "classes",
        "Each colour is a class. A few strokes of 3 to 5 pixels do, where the model is wrong.",
    ),
    (
        "Whole objects", "objects",
        "Each number is one object, 1 is background. Objects painted whole, with background or "
        "other objects all around, also teach where edges are.",
    ),
    (
        "Correct the prediction", "corrections",
        "A copy of the last result of Segment to repair: what you change in it is learned.",
    ),
)  # fmt: skip
_MOST_BRUSHES = 8


class PaintBox(QGroupBox):
    """Chooses image, kind of annotation and brush; the tab does what it asks for."""

    painting_asked = Signal()
    complete_asked = Signal()
    next_asked = Signal()
    brush_chosen = Signal(int)  # label; 0 for one that is not used yet

    def __init__(self, viewer: Viewer, parent: QWidget | None = None) -> None:
        super().__init__("Paint", parent)
        self.input = InputForm(viewer)
        self.input.layer_box.setToolTip(
            "The image to paint on. Selecting an image in the layer list chooses it."
        )
        self.kind = QComboBox()
        for title, kind, tip in _KINDS:
            self.kind.addItem(title, kind)
            self.kind.setItemData(self.kind.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.kind.setToolTip("What you paint: parts of classes, whole objects, or repairs.")
        self.input.add_row("Annotate", self.kind)
        self.paint = QPushButton("Paint on this image")
        self.paint.setToolTip(
            "Add a labels layer on the image and take up the brush. Strokes that were kept of "
            "this image come back."
        )
        self.complete = QPushButton("Complete region …")
        self.complete.setToolTip(
            "Draw rectangles in which everything was painted: the rest inside is background."
        )
        self.next = QPushButton("Where to paint next")
        self.next.setToolTip(
            "Move the view to where the model is least sure and nothing was painted yet, in "
            "depth and time, too."
        )
        self.notice = Notice(viewer.theme)
        self._brushes = QWidget()
        self._grid = QGridLayout(self._brushes)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(4)
        self.brushes: list[QPushButton] = []
        self._lay_out()
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.paint.clicked.connect(self.painting_asked)
        self.complete.clicked.connect(self.complete_asked)
        self.next.clicked.connect(self.next_asked)
        self.input.changed.connect(self._hide_rows)
        self._hide_rows()
        self.set_painting(False)

    def kind_chosen(self) -> Kind:
        """Return what is to be painted."""
        chosen: Kind = self.kind.currentData()
        return chosen

    def set_card(self, card: ModelCard | None) -> None:
        """Offer a model's channels."""
        self.input.set_card(card)
        self._hide_rows()

    def set_painting(self, possible: bool) -> None:
        """Offer brush and regions once there is a layer to paint in."""
        self._brushes.setVisible(possible)
        self.complete.setVisible(possible and self.kind_chosen() != "corrections")

    def offer_brushes(self, kind: Kind, names: tuple[str, ...]) -> None:
        """Show one button per class, or for background and a new object."""
        for button in self.brushes:
            self._grid.removeWidget(button)
            button.deleteLater()
        self.brushes = []
        entries = [(f"{i} {name}", i) for i, name in enumerate(names, 1)][:_MOST_BRUSHES]
        if kind == "objects":
            entries = [("Background", BACKGROUND), ("New object", 0)]
        elif kind == "corrections":
            entries = [("Erase", -1), ("New object", 0)]
        for index, (title, label) in enumerate(entries):
            button = QPushButton(title)
            if kind == "classes":
                button.setIcon(_swatch(COLOURS[(label - 1) % len(COLOURS)]))
            button.setToolTip("Take up the brush with this label.")
            button.clicked.connect(lambda _=False, n=label: self.brush_chosen.emit(n))
            self._grid.addWidget(button, index // 2, index % 2)
            self.brushes.append(button)

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self.notice.set_theme(theme)

    def _lay_out(self) -> None:
        row = QWidget()
        line = QGridLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        line.addWidget(self.complete, 0, 0)
        line.addWidget(self.next, 0, 1)
        framed(self, self.input, self.paint, self._brushes, row, self.notice)

    def _on_kind(self) -> None:
        self.kind.setToolTip(_KINDS[self.kind.currentIndex()][2])

    def _hide_rows(self) -> None:
        """Training has no use for how a prediction is cut up and averaged."""
        form = self.input
        for field in (form.quality_box, form.flips_box, form.planes_box, form.integers_box):
            form.show_row(field, False)


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
