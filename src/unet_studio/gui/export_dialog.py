"""The window that writes a model for others: which kind of file, with which details."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QVBoxLayout,
    QWidget,
)

from unet_studio.cli.export import read_example
from unet_studio.gui.asking import confirm, small_button
from unet_studio.gui.layouts import form_layout
from unet_studio.gui.work_dialog import WorkDialog
from unet_studio.models.exporting import SUFFIXES, Details, ExportRequest, Kind, export_model
from unet_studio.models.store import ModelEntry
from unet_studio.user_paths import user_path

_TITLES = {
    Kind.bioimageio: "BioImage Model Zoo package",
    Kind.onnx: "ONNX",
    Kind.torchscript: "TorchScript",
    Kind.file: "U-Net Studio model file",
}
_ABOUT = {
    Kind.bioimageio: "For ilastik, DeepImageJ and others that read the BioImage Model Zoo: "
    "weights in three formats, normalisation, a test image and documentation, checked by the "
    "format's own library. Nothing is uploaded.",
    Kind.onnx: "The bare network for programs with an ONNX runtime: it takes normalised images. "
    "It is compared with the model before it is kept.",
    Kind.torchscript: "The bare network for programs with PyTorch: it takes normalised images. It "
    "is compared with the model before it is kept.",
    Kind.file: "A copy of the model's file, for a colleague with U-Net Studio: drop it on napari.",
}
_SIZE = (520, 360)


class ExportDialog(WorkDialog):
    """Edits an :class:`~unet_studio.models.exporting.ExportRequest`, and does it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("export a model", "Export …", "Nothing was written.", parent)
        self._entry: ModelEntry | None = None
        self.model = QLabel()
        self.model.setTextFormat(Qt.TextFormat.PlainText)
        self.kind = QComboBox()
        for kind, title in _TITLES.items():
            self.kind.addItem(title, kind)
        self.about = QLabel()
        self.about.setWordWrap(True)
        self.about.setAlignment(Qt.AlignmentFlag.AlignTop)
        self.example = QLineEdit()
        self.example.setPlaceholderText("a made-up texture")
        self.example.setToolTip("Image file for the package's test data and cover.")
        self.browse = small_button("…", "Choose an image file.")
        self.authors = QLineEdit()
        self.authors.setToolTip("Names of the package's authors, by commas.")
        self.licence = QLineEdit()
        self.licence.setToolTip("SPDX identifier, such as CC-BY-4.0.")
        self.maintainer = QLineEdit()
        self.maintainer.setPlaceholderText("nobody")
        self.maintainer.setToolTip("GitHub user name of who maintains the package.")
        self.primary.setToolTip("Asks for the file to write.")
        self._lay_out()
        self._connect()
        self._on_kind()
        self._show_work()

    def set_model(self, entry: ModelEntry) -> None:
        """Choose the model to write; while another is being written, it stays."""
        if self.running:
            return
        self._entry = entry
        card = entry.card
        self.model.setText(entry.name)
        self.authors.setPlaceholderText(card.authors or "unknown")
        self.licence.setPlaceholderText(card.licence)
        self.notice.show_message("info", "")

    def value(self, target: Path) -> ExportRequest:
        """Return what is chosen, to be written to a file."""
        assert self._entry is not None
        example = self.example.text().strip()
        names = tuple(part.strip() for part in self.authors.text().split(",") if part.strip())
        return ExportRequest(
            reference=self._entry.path,
            target=target,
            kind=self.kind.currentData(),
            example=partial(read_example, user_path(example)) if example else None,
            details=Details(
                names, self.licence.text().strip() or None, self.maintainer.text().strip() or None
            ),
            replace=True,  # the user was asked
        )

    def write(self, target: Path) -> None:
        """Write the model beside the window; a file that is there is replaced."""
        if self._entry is None or self.running:
            return
        request = self.value(target)
        self.notice.show_message("info", "")
        self.bar.start(
            f"Exporting {self._entry.name}",
            lambda token, tell: export_model(request, token=token, tell=tell),
            self._on_written,
        )
        self._show_work()

    # -- what the buttons do --------------------------------------------------------

    def _on_export(self) -> None:
        if self._entry is None:
            return
        kind: Kind = self.kind.currentData()
        suffix = SUFFIXES[kind]
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Export the model",
            str(Path.home() / f"{self._entry.name}{suffix}"),
            f"{_TITLES[kind]} (*{suffix})",
        )
        if not path:
            return
        target = _ending_in(suffix, Path(path))
        # The file dialog has asked about the name as it was typed.
        if (
            target.name == Path(path).name
            or not target.exists()
            or confirm(self, "Replace a file?", f"{target} is there already. Replace it?")
        ):
            self.write(target)

    def _on_browse(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "An image for the package")
        if path:
            self.example.setText(path)

    def _on_kind(self, _index: int = 0) -> None:
        kind = self.kind.currentData()
        self.about.setText(_ABOUT[kind])
        for row in (self._example_row, self.authors, self.licence, self.maintainer):
            self._form.setRowVisible(row, kind is Kind.bioimageio)

    def _on_written(self, sentences: tuple[str, ...]) -> None:
        self.notice.show_message("good", " ".join(sentences))

    # -- how it looks ------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._example_row = QWidget()
        line = QHBoxLayout(self._example_row)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.example, 1)
        line.addWidget(self.browse)
        holder = QWidget()
        self._form = form_layout(holder)
        rows: tuple[tuple[str, Any], ...] = (
            ("Model", self.model),
            ("As", self.kind),
            ("", self.about),
            ("Test image", self._example_row),
            ("Authors", self.authors),
            ("Licence", self.licence),
            ("Maintainer", self.maintainer),
        )
        for title, widget in rows:
            self._form.addRow(title, widget)
        outer = QVBoxLayout(self)
        outer.addWidget(holder)
        outer.addWidget(self.notice)
        outer.addStretch(1)
        outer.addLayout(self._foot())
        self.resize(*_SIZE)

    def _connect(self) -> None:
        self.kind.currentIndexChanged.connect(self._on_kind)
        self.browse.clicked.connect(self._on_browse)
        self.primary.clicked.connect(self._on_export)


def _ending_in(suffix: str, path: Path) -> Path:
    """Return a path with an ending; a stem may hold dots."""
    return path if path.suffix == suffix else path.with_name(path.name + suffix)
