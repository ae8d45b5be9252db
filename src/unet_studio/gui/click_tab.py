"""The Click tab: click an object to have it, click again to correct it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QFileDialog, QGroupBox, QPushButton, QWidget

from unet_studio.errors import UNetStudioError
from unet_studio.gui.click_form import ClickForm
from unet_studio.gui.click_journal import journals_folder
from unet_studio.gui.click_panel import ClickPanel
from unet_studio.gui.clicking import Clicking
from unet_studio.gui.layouts import framed, stacked
from unet_studio.gui.messages import tell_failure
from unet_studio.gui.notice import Notice
from unet_studio.gui.primary_button import PrimaryButton

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

    from unet_studio.gui.click_state import Setup
    from unet_studio.gui.model_header import ModelHeader

START_TEXT, STOP_TEXT = "Start clicking", "Stop clicking"
_JOURNALS = "Journals of clicks (*.jsonl)"


class ClickTab(QWidget):
    """Binds the form, a session of clicks, and its buttons.

    Parameters
    ----------
    viewer : napari viewer
    header : ModelHeader
    """

    def __init__(self, viewer: Viewer, header: ModelHeader) -> None:
        super().__init__()
        self._viewer = viewer
        self.form = ClickForm(viewer, header)
        self.run_button = PrimaryButton(START_TEXT, "unet-studio-click", viewer.theme)
        self.restore_button = QPushButton("Restore a journal …")
        self.restore_button.setToolTip(
            "Do again what was done in an earlier session with this image, such as one that was "
            "cut off. Every session is noted in the settings folder."
        )
        self.summary = Notice(viewer.theme)
        self.panel = ClickPanel()
        self.clicking: Clicking | None = None
        self._lay_out()
        self._connect()
        self._show_state()

    # -- what the dock calls ------------------------------------------------

    def run_or_cancel(self) -> None:
        """Do what the primary button does: start clicking, or stop."""
        if self.clicking is None:
            self.start()
        else:
            self.clicking.end()

    def choose_layer(self, layer: Image) -> None:
        """Select the image to click in."""
        self.form.layer_box.set_value(layer)

    def stop_work(self) -> None:
        """Stop clicking: the window closes."""
        if self.clicking is not None:
            self.clicking.end()
        self.summary.show_message("info", "")

    def shut_down(self) -> None:
        """Let go of the viewer for good."""
        self.stop_work()
        self.form.disconnect_viewer()

    def set_theme(self, theme: str) -> None:
        """Follow a change of napari's theme."""
        self.summary.set_theme(theme)
        self.run_button.set_theme(theme)

    # -- clicking -----------------------------------------------------------

    def start(self, journal: Path | None = None) -> None:
        """Start a session on the image that is chosen, or restore one from a journal."""
        setup = self.form.value()
        if problem := self.form.problem():
            self.summary.show_message("warning", problem)
            return
        if setup is None or self.clicking is not None:
            return
        try:
            self.clicking = self._begin(replace(setup, journal=journal))
        except UNetStudioError as error:
            tell_failure(self.summary, str(error))

    def _begin(self, setup: Setup) -> Clicking:
        clicking = Clicking(self._viewer, setup, self)
        self.clicking = clicking
        clicking.commits.set_policy(self.form.policy_box.currentData())
        clicking.told.connect(self.summary.show_message)
        clicking.changed.connect(self._show_state)
        clicking.ended.connect(self._on_end)
        clicking.progressed.connect(self.panel.show_planes)
        clicking.commits.chosen.connect(self._on_chosen)
        self.form.fix(setup.layer)
        self.panel.serve(clicking)
        clicking.start()
        clicking.commits.set_target(self.form.labels_box.value())
        self._show_state()
        return clicking

    def _on_end(self, why: str) -> None:
        clicking, self.clicking = self.clicking, None
        if clicking is not None:
            clicking.deleteLater()
            count = f"{clicking.counted:,} object{'s' * (clicking.counted != 1)}"
            words = f"Stopped; {count} committed." if clicking.counted else "Stopped."
            self.summary.show_message("warning" if why else "info", why or words)
        self.panel.serve(None)
        self.form.fix(None)
        self._show_state()

    def _on_chosen(self) -> None:
        if self.clicking is not None:
            self.form.labels_box.refresh()
            self.form.labels_box.set_value(self.clicking.ledger.layer)

    def _on_labels(self) -> None:
        if self.clicking is not None:
            self.clicking.commits.set_target(self.form.labels_box.value())

    def _on_policy(self, _index: int = 0) -> None:
        if self.clicking is not None:
            self.clicking.commits.set_policy(self.form.policy_box.currentData())

    # -- journals -----------------------------------------------------------

    def save_journal(self, path: Path) -> None:
        """Save the journal of the session that is going."""
        if self.clicking is not None:
            self.clicking.commits.with_journal(lambda text: self._write(path, text))

    def _write(self, path: Path, text: str) -> None:
        from unet_studio.images.atomic import cannot_write

        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            tell_failure(self.summary, str(cannot_write(path, error)))
        else:
            self.summary.show_message("good", f"The journal is in {path}.")

    def _ask_where(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Save the journal", "clicks.jsonl", _JOURNALS)
        if path:
            self.save_journal(Path(path))

    def _ask_which(self) -> None:
        folder = str(journals_folder())
        path, _ = QFileDialog.getOpenFileName(self, "Restore a journal", folder, _JOURNALS)
        if path:
            self.start(Path(path))

    # -- building -----------------------------------------------------------

    def _lay_out(self) -> None:
        stacked(
            self, framed(QGroupBox("Image and labels"), self.form), self.run_button,
            self.summary, self.panel, self.restore_button,
        ).addStretch(1)  # fmt: skip

    def _connect(self) -> None:
        self.run_button.clicked.connect(self.run_or_cancel)
        self.restore_button.clicked.connect(self._ask_which)
        self.form.changed.connect(self._show_state)
        self.form.labels_box.layer_changed.connect(self._on_labels)
        self.form.policy_box.currentIndexChanged.connect(self._on_policy)
        self.panel.save_wanted.connect(self._ask_where)
        self.panel.learn_wanted.connect(self._on_learn)

    def _on_learn(self) -> None:
        if self.clicking is not None:
            self.clicking.commits.learn()

    def _show_state(self, _event: Any = None) -> None:
        going = self.clicking is not None
        problem = "" if going else self.form.problem()
        self.run_button.setText(STOP_TEXT if going else START_TEXT)
        self.run_button.setEnabled(going or not problem)
        self.run_button.setToolTip(
            "Stop: objects that were committed stay, clicks go (Ctrl+Shift+U)."
            if going
            else problem or "Add a layer for clicks to the window, and click (Ctrl+Shift+U)."
        )
        self.panel.setVisible(going)
        self.restore_button.setVisible(not going)
        self.restore_button.setEnabled(not problem)
        self.panel.refresh()
