"""The window that makes a new model: architecture, encoder, weights; what each costs.

Nothing is downloaded before a question says from where and under which licence, and was
answered with yes. The network is built on a thread of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from unet_studio.errors import ModelError
from unet_studio.gui.asking import confirm
from unet_studio.gui.layouts import form_layout
from unet_studio.gui.work_dialog import WorkDialog
from unet_studio.images.limits import readable_size
from unet_studio.models.choices import ARCHITECTURES
from unet_studio.models.creating import NewModel, create_model
from unet_studio.models.encoders import RANDOM, families, find_encoder, search_encoders
from unet_studio.models.importing import free_name, target_of

if TYPE_CHECKING:
    from unet_studio.models.encoder_files import WeightsOffer
    from unet_studio.models.importing import Imported

_FILE = "file …"
_FINDS = {
    "objects": "touching objects, told apart",
    "binary": "foreground",
    "classes": "classes",
}
_USUAL = {"objects": "object", "binary": "object", "classes": "background, foreground"}
_ALL = "all families"


class NewModelDialog(WorkDialog):
    """Edits a :class:`~unet_studio.models.creating.NewModel`, and makes it."""

    created = Signal(str)  # its name in the store

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("new model", "Create", "No model was made.", parent)
        self._file = ""
        self.name = QLineEdit(free_name("my model"))
        self.architecture = QComboBox()
        self.size = QComboBox()
        self.family = QComboBox()
        self.search = QLineEdit()
        self.encoder = QComboBox()
        self.weights = QComboBox()
        self.dimensions = QComboBox()
        self.channels = QSpinBox()
        self.finds = QComboBox()
        self.classes = QLineEdit(_USUAL["objects"])
        self.facts = QLabel()
        self._fill()
        self._lay_out()
        self._connect()
        self._show_work()
        self._on_architecture()

    def value(self) -> NewModel:
        """Return what is chosen."""
        key = self.architecture.currentData()
        if ARCHITECTURES[key].has_encoder:
            preset, weights = f"{key}/{self.encoder.currentText()}", self.weights.currentData()
        else:
            preset, weights = self.size.currentText(), RANDOM
        names = tuple(part.strip() for part in self.classes.text().split(",") if part.strip())
        return NewModel(
            preset,
            weights=(self._file if weights == _FILE else weights) or RANDOM,
            in_channels=self.channels.value(),
            ndim=int(self.dimensions.currentData() or 2),
            representation=self.finds.currentData(),
            classes=names or None,
        )

    def make(self) -> None:
        """Ask where something has to be downloaded, then make the model."""
        if self.running:
            return
        name, new = self.name.text().strip(), self.value()
        try:
            target_of(name)
            fetch = new.to_fetch()
        except ModelError as error:
            self.notice.show_message("error", str(error))
            return
        if fetch is not None and not confirm(self, "Download weights?", question(fetch)):
            return
        allowed = fetch is not None
        self.notice.show_message("info", "")
        self.bar.start(
            "Making the model",
            lambda token, tell: create_model(name, new, download=allowed, token=token, tell=tell),
            self._on_made,
        )
        self._show_work()

    # -- choices ---------------------------------------------------------------------

    def _fill(self) -> None:
        for key, about in ARCHITECTURES.items():
            self.architecture.addItem(about.title, key)
            row = self.architecture.count() - 1
            self.architecture.setItemData(row, about.about, Qt.ItemDataRole.ToolTipRole)
        self.architecture.setCurrentIndex(self.architecture.findData("smp-unet"))
        self.search.setPlaceholderText("Search encoders …")
        self.search.setClearButtonEnabled(True)
        self.channels.setRange(1, 999)
        self.channels.setToolTip("Channels of the images. First layers of trained encoders fit.")
        for key, title in _FINDS.items():
            self.finds.addItem(title, key)
        self.classes.setToolTip("Names, by commas; for classes, the background first.")
        self.encoder.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.encoder.setMinimumContentsLength(24)
        self.facts.setTextFormat(Qt.TextFormat.PlainText)
        self.facts.setWordWrap(True)
        self.facts.setMinimumHeight(110)
        self.facts.setAlignment(Qt.AlignmentFlag.AlignTop)

    def _on_architecture(self) -> None:
        about = ARCHITECTURES[self.architecture.currentData()]
        _refill(self.size, [(preset, preset) for preset in about.presets])
        _refill(self.dimensions, [(f"{n}D", n) for n in about.dimensions])
        for widget in (self.family, self.search, self.encoder, self.weights):
            self._form.setRowVisible(widget, about.has_encoder)
        self._form.setRowVisible(self.size, not about.has_encoder)
        if about.has_encoder:
            names = [*families(self.architecture.currentData()), _ALL]
            _refill(self.family, [(name, name) for name in names])
            self._on_family()
        else:
            self._describe()

    def _on_family(self) -> None:
        """List the encoders of the family, or of all where something is searched."""
        text = self.search.text().strip()
        family = "" if text or self.family.currentText() == _ALL else self.family.currentText()
        found = search_encoders(text, family)
        key = self.architecture.currentData()
        # What was measured with this decoder and failed is not offered.
        fitting = [e for e in found if e.fits(key)]
        if family:
            fitting = [e for e in fitting if e.family == family]
        _refill(self.encoder, [(e.name, e.name) for e in fitting])
        self._on_encoder()

    def _on_encoder(self) -> None:
        name, entries = self.encoder.currentText(), [(RANDOM, RANDOM)]
        if name:
            entries += [(f"{w.tag} ({w.licence})", w.tag) for w in find_encoder(name).weights]
            entries.append((_FILE, _FILE))
        _refill(self.weights, entries)
        self._describe()

    def _on_weights(self, _index: int = 0) -> None:
        if self.weights.currentData() == _FILE:
            path, _ = QFileDialog.getOpenFileName(
                self, "Weights of the encoder", "", "Weights (*.safetensors *.pth *.pt *.bin)"
            )
            if not path:
                self.weights.setCurrentIndex(0)
                return
            self._file = path
        self._describe()

    def _on_finds(self, _index: int = 0) -> None:
        if self.classes.text() in _USUAL.values():
            self.classes.setText(_USUAL[self.finds.currentData()])

    def _describe(self) -> None:
        self.primary.setEnabled(not self.running and self._may_start())
        self.facts.setText(describe_new(self.value()) if self._may_start() else "No such encoder.")

    def _may_start(self) -> bool:
        about = ARCHITECTURES[self.architecture.currentData()]
        return not about.has_encoder or bool(self.encoder.currentText())

    # -- one piece of work at a time ----------------------------------------------------

    def _on_made(self, imported: Imported) -> None:
        name = imported.entry.name
        text = f"{name} is in your store. It has to be trained before it finds anything."
        self.notice.show_message("good", " ".join([text, *imported.notes]))
        self.name.setText(free_name(name))
        self.created.emit(name)

    # -- how it looks --------------------------------------------------------------------

    def _lay_out(self) -> None:
        holder = QWidget()
        self._form = form_layout(holder)
        for title, field in (
            ("Name", self.name),
            ("Architecture", self.architecture),
            ("Size", self.size),
            ("Family", self.family),
            ("Search", self.search),
            ("Encoder", self.encoder),
            ("Weights", self.weights),
            ("Dimensions", self.dimensions),
            ("Channels", self.channels),
            ("Finds", self.finds),
            ("Called", self.classes),
        ):
            self._form.addRow(title, field)
        outer = QVBoxLayout(self)
        outer.addWidget(holder)
        outer.addWidget(self.facts)
        outer.addWidget(self.notice)
        outer.addStretch(1)
        outer.addLayout(self._foot())
        self.resize(560, 520)

    def _connect(self) -> None:
        self.architecture.currentIndexChanged.connect(self._on_architecture)
        self.family.currentIndexChanged.connect(self._on_family)
        self.search.textChanged.connect(self._on_family)
        self.encoder.currentIndexChanged.connect(self._on_encoder)
        # "activated": a file is only asked for when the user chooses.
        self.weights.activated.connect(self._on_weights)
        self.weights.currentIndexChanged.connect(self._describe)
        self.size.currentIndexChanged.connect(self._describe)
        self.dimensions.currentIndexChanged.connect(self._describe)
        self.finds.currentIndexChanged.connect(self._on_finds)
        self.primary.clicked.connect(self.make)


def _refill(box: QComboBox, entries: list[tuple[str, Any]]) -> None:
    """Replace the entries of a box; keep the chosen one if it is still there."""
    current = box.currentData()
    blocked = box.blockSignals(True)
    box.clear()
    for text, data in entries:
        box.addItem(text, data)
    box.setCurrentIndex(max(0, box.findData(current)) if entries else -1)
    box.blockSignals(blocked)


def describe_new(new: NewModel) -> str:
    """Return what a user should know before a model is made: size, memory, licence."""
    architecture = new.preset.partition("/")[0]
    lines = [about.about for key, about in ARCHITECTURES.items() if key == architecture]
    found = new.size()
    if found is not None:
        size, whole = found
        kind = "" if whole else " in the encoder"
        measured_elsewhere = "/" in new.preset and architecture not in ("smp-unet", "smp-dpt")
        place = "megapixel" if new.ndim == 2 else "million voxels"
        lines.append(f"Parameters: {size.parameters / 1e6:.1f} million{kind}")
        under = " (under a U-Net's decoder)" if measured_elsewhere else ""
        memory = readable_size(int(size.bytes_per_pixel * 1e6))
        lines.append(f"Memory: about {memory} per {place}{under}")
    known = new.known_weights()
    if known is not None:
        lines.append(f"Licence of the weights: {known.licence}")
        lines.append(f"From: huggingface.co/{known.repository}. You are asked before a download.")
    elif new.weights != RANDOM:
        lines.append(f"Weights from {Path(new.weights).name}")
    return "\n".join(lines)


def question(what: WeightsOffer) -> str:
    """Return what a user should know before weights are downloaded."""
    return "\n".join(
        [
            f"Download the weights {what.weights.repository} ({what.weights.tag})?",
            "",
            f"From: {what.url}",
            f"Licence: {what.weights.licence}",
            "Their SHA-256 is written down at first use, and compared at each later one.",
        ]
    )
