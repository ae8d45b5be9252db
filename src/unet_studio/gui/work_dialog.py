"""A window of its own that edits something and does one piece of work at a time."""

from __future__ import annotations

from qtpy.QtWidgets import QDialog, QHBoxLayout, QPushButton, QWidget

from unet_studio.gui.asking import small_button
from unet_studio.gui.notice import Notice
from unet_studio.gui.work_bar import WorkBar


class WorkDialog(QDialog):
    """What such windows share: the bar, the notice, and two buttons.

    Parameters
    ----------
    title : str
    action : str
        What the primary button says.
    undone : str
        What is told after Cancel, such as "Nothing was written.".
    parent : QWidget, optional
    """

    def __init__(self, title: str, action: str, undone: str, parent: QWidget | None) -> None:
        super().__init__(parent)
        self.setWindowTitle(f"U-Net Studio – {title}")
        self.setModal(False)
        self.notice = Notice()
        self.bar = WorkBar()
        self.primary = QPushButton(action)
        self.primary.setDefault(True)
        self.cancel = small_button("Close", "Close, or stop what is going on.")
        self.cancel.setAutoDefault(False)
        self.cancel.clicked.connect(self._on_cancel)
        self.bar.ended.connect(self._show_work)
        self.bar.warned.connect(lambda text: self.notice.show_message("warning", text))
        self.bar.failed.connect(lambda text, _: self.notice.show_message("error", text))
        self.bar.cancelled.connect(
            lambda _: self.notice.show_message("info", f"Cancelled. {undone}")
        )

    @property
    def running(self) -> bool:
        """Whether the work is going on."""
        return self.bar.running

    def stop(self) -> None:
        """Ask what is going on to stop."""
        self.bar.stop()

    def shut_down(self) -> None:
        """Stop, report nothing, and go away."""
        self.bar.abandon()
        self.close()
        self.deleteLater()

    def reject(self) -> None:
        """Close; what is going on is stopped."""
        self.stop()
        super().reject()

    def _may_start(self) -> bool:
        """Whether the primary button can be pressed while nothing is going on."""
        return True

    def _show_work(self) -> None:
        self.bar.setVisible(self.running)
        self.primary.setEnabled(not self.running and self._may_start())
        self.cancel.setText("Cancel" if self.running else "Close")

    def _on_cancel(self) -> None:
        if self.running:
            self.stop()
        else:
            self.close()

    def _foot(self) -> QHBoxLayout:
        """Return the line with the bar and the buttons."""
        line = QHBoxLayout()
        line.addWidget(self.bar, 1)
        line.addStretch(0)
        line.addWidget(self.cancel)
        line.addWidget(self.primary)
        return line
