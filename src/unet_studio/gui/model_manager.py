"""The window that manages models: see, search, fetch, import and remove them.

Nothing is downloaded before a question says from where, how large and under which
licence, and was answered with yes.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, QUrl, Signal
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import (
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QLineEdit,
    QMenu,
    QPlainTextEdit,
    QPushButton,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from unet_studio.errors import UNetStudioError
from unet_studio.gui.asking import confirm, fetch_question
from unet_studio.gui.asking import small_button as _button
from unet_studio.gui.model_table import ModelTable, Row
from unet_studio.gui.model_work import ModelWork
from unet_studio.models.catalogue import CatalogueEntry, find_entry
from unet_studio.models.fetching import Offer, fetch_model, offer
from unet_studio.models.importing import (
    IMPORTERS,
    default_name,
    free_name,
    import_model,
)
from unet_studio.models.store import (
    ModelEntry,
    make_models_folder,
    models_folder,
    remove_model,
    unread_files,
)

if TYPE_CHECKING:
    from unet_studio.gui.export_dialog import ExportDialog
    from unet_studio.gui.new_model import NewModelDialog

_SIZE = (760, 560)


class ModelManager(QDialog):
    """Shows the models, and does one thing at a time."""

    changed = Signal(str)  # name of a new model; empty if one went away

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("U-Net Studio – models")
        self.setModal(False)
        self.work = ModelWork(self)
        self.bar, self.notice, self.consent = self.work.bar, self.work.notice, self.work.consent
        self.search = QLineEdit()
        self.search.setPlaceholderText("Search name, what it finds, licence …")
        self.search.setClearButtonEnabled(True)
        self.table = ModelTable()
        self.info = QPlainTextEdit()
        self.info.setReadOnly(True)
        self.fetch = _button("Fetch …", "Download the chosen model. Asks before.")
        self.fetch_other = _button(
            "Fetch other …",
            "Download a model from an address, or from the BioImage Model Zoo (zoo:ID). "
            "Asks before.",
        )
        self.new = _button("New …", "Make a model to be trained: architecture, encoder, weights.")
        self._new_dialog: NewModelDialog | None = None
        self.bring = self._import_button()
        self.export = _button(
            "Export …", "Write the chosen model for other programs, or for a colleague."
        )
        self._export_dialog: ExportDialog | None = None
        self.allow = _button("Allow …", "This model is a program. Asks whether it may run.")
        self.remove = _button("Remove …", "Take the chosen model out of your folder. Asks before.")
        self.folder = _button(
            "Open folder", f"Model files put into {models_folder()} are found by themselves."
        )
        self.cancel = _button("Cancel", "Stop. What has arrived is kept for the next try.")
        self._lay_out()
        self._connect()
        self._show_work()
        self.refresh()

    def refresh(self) -> None:
        """Look again which models there are."""
        self.table.show_models(self.search.text())

    @property
    def running(self) -> bool:
        """Whether something is being fetched or imported."""
        return self.bar.running

    def fetch_entry(self, entry: CatalogueEntry) -> None:
        """Ask, then fetch a model. What lies here already is looked at beside the window."""
        self.work.start(
            f"Looking for {entry.file}", lambda token, tell: offer(entry), self._on_offer
        )

    def import_path(self, path: Path) -> None:
        """Import a file or folder under its own name, or the next one that is free."""
        if self.running:
            return
        name = free_name(default_name(path))
        self.work.bring(path.name, "Importing", partial(import_model, path, name=name))

    def ask_consent(self, entry: ModelEntry) -> None:
        """Ask whether a model that is a program may run, unless that was allowed before."""
        self.work.ask_consent(entry)

    def open_export(self) -> ExportDialog | None:
        """Show the window that writes the chosen model for others."""
        row = self.table.current()
        if row is None or row.here is None:
            return None
        if self._export_dialog is None:
            from unet_studio.gui.export_dialog import ExportDialog

            self._export_dialog = ExportDialog(self)
        self._export_dialog.set_model(row.here)
        self._export_dialog.show()
        self._export_dialog.raise_()
        return self._export_dialog

    def open_new(self) -> NewModelDialog:
        """Show the window that makes a new model."""
        if self._new_dialog is None:
            from unet_studio.gui.new_model import NewModelDialog

            self._new_dialog = NewModelDialog(self)
            self._new_dialog.created.connect(self._on_created)
        self._new_dialog.show()
        self._new_dialog.raise_()
        return self._new_dialog

    def _on_created(self, name: str) -> None:
        self.search.clear()
        self.refresh()
        self.table.select(name)
        self.changed.emit(name)

    def stop(self) -> None:
        """Ask what is going on to stop."""
        self.bar.stop()

    def shut_down(self) -> None:
        """Stop, report nothing, and go away."""
        self.bar.abandon()
        for dialog in filter(None, (self._new_dialog, self._export_dialog)):
            dialog.shut_down()
        self._new_dialog = self._export_dialog = None
        self.close()
        self.deleteLater()

    def showEvent(self, event: Any) -> None:
        """Look for files that were put into the folder meanwhile."""
        super().showEvent(event)
        self.refresh()
        unread = [problem for _, problem in unread_files()]
        if unread and not self.running:
            self.notice.show_message("warning", "Not listed: " + "\n".join(unread))

    def reject(self) -> None:
        """Close; a download whose progress nobody can see any more is stopped."""
        self.stop()
        super().reject()

    # -- what the buttons do -----------------------------------------------------

    def _on_fetch(self) -> None:
        row = self.table.current()
        if row is not None and row.offered is not None:
            self.fetch_entry(row.offered)

    def _on_offer(self, what: Offer) -> None:
        if not confirm(self, "Fetch a model?", fetch_question(what)):
            return
        self.work.bring(what.entry.name, "Fetching", partial(fetch_model, what.entry))

    def _on_allow(self) -> None:
        row = self.table.current()
        if row is not None and row.here is not None:
            self.ask_consent(row.here)

    def _on_fetch_other(self) -> None:
        text, good = QInputDialog.getText(
            self, "Fetch a model", "Address (https://…), or zoo:ID of the BioImage Model Zoo:"
        )
        if good and text.strip():
            self._guarded(lambda: self.fetch_entry(find_entry(text.strip())))

    def _on_import_file(self) -> None:
        parts = [IMPORTERS.load(name) for name in IMPORTERS]
        suffixes = sorted({suffix for part in parts for suffix in part.suffixes})
        kinds = " ".join(f"*{suffix}" for suffix in suffixes)
        path, _ = QFileDialog.getOpenFileName(
            self, "Import a model", "", f"Models ({kinds});;All files (*)"
        )
        if path:
            self.import_path(Path(path))

    def _on_import_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Import a model's folder")
        if path:
            self.import_path(Path(path))

    def _on_remove(self) -> None:
        row = self.table.current()
        if row is None or not row.removable:
            return
        text = f"Remove {row.name}?\n\nIts file is moved aside, not deleted."
        if confirm(self, "Remove a model?", text):
            self._guarded(lambda: self._removed(row.name))

    def _removed(self, name: str) -> None:
        moved = remove_model(name)
        self.notice.show_message("good", f"{name} was removed. Its file is now {moved}")
        self.refresh()
        self.changed.emit("")

    def _on_folder(self) -> None:
        def show() -> None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(make_models_folder())))

        self._guarded(show)

    def _guarded(self, action: Any) -> None:
        try:
            action()
        except UNetStudioError as error:
            self.notice.show_message("error", str(error))

    def _show_work(self) -> None:
        running = self.running
        self.bar.setVisible(running)
        self.cancel.setVisible(running)
        for widget in (self.fetch_other, self.bring):
            widget.setEnabled(not running)
        self._on_chosen(self.table.current())

    def _on_chosen(self, row: Row | None) -> None:
        self.info.setPlainText("" if row is None else row.facts())
        here = row is not None and row.here is not None
        self.fetch.setEnabled(row is not None and not here and not self.running)
        self.export.setEnabled(here)
        self.remove.setEnabled(row is not None and row.removable and not self.running)
        program = here and row.here.card.architecture == "torchscript"
        self.allow.setVisible(program)
        self.allow.setEnabled(program and not self.running)

    # -- how it looks --------------------------------------------------------------

    def _import_button(self) -> QPushButton:
        button = _button("Import …", "Copy or convert a model of your own into your folder.")
        menu = QMenu(button)
        menu.addAction("A file …", self._on_import_file)
        menu.addAction("A folder …", self._on_import_folder)
        button.setMenu(menu)
        return button

    def _lay_out(self) -> None:
        split = QSplitter(Qt.Orientation.Vertical)
        split.addWidget(self.table)
        split.addWidget(self.info)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        buttons = QHBoxLayout()
        for button in (
            self.new, self.fetch, self.fetch_other, self.bring, self.export, self.remove,
            self.allow,
        ):  # fmt: skip
            buttons.addWidget(button)
        buttons.addStretch(1)
        buttons.addWidget(self.folder)
        progress = QHBoxLayout()
        progress.addWidget(self.bar, 1)
        progress.addWidget(self.cancel)
        outer = QVBoxLayout(self)
        outer.setSpacing(8)
        outer.addWidget(self.search)
        outer.addWidget(split, 1)
        outer.addWidget(self.notice)
        outer.addWidget(self.consent)
        outer.addLayout(progress)
        outer.addLayout(buttons)
        self.resize(*_SIZE)

    def _connect(self) -> None:
        self.search.textChanged.connect(self.refresh)
        self.table.chosen.connect(self._on_chosen)
        self.new.clicked.connect(self.open_new)
        self.fetch.clicked.connect(self._on_fetch)
        self.fetch_other.clicked.connect(self._on_fetch_other)
        self.export.clicked.connect(self.open_export)
        self.allow.clicked.connect(self._on_allow)
        self.remove.clicked.connect(self._on_remove)
        self.folder.clicked.connect(self._on_folder)
        self.cancel.clicked.connect(self.stop)
        self.work.busy_changed.connect(self._show_work)
        self.work.created.connect(self._on_created)
