"""The versions of a session: which there are, how they were judged, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QGroupBox,
    QHBoxLayout,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from unet_studio.gui.layouts import framed
from unet_studio.gui.messages import plain_tooltip

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unet_studio.training.session import Version

_ROW = 19  # pixels
_MOST_ROWS = 5


class VersionsBox(QGroupBox):
    """Lists versions, the current one marked; asks to use one, or to go back to the parent."""

    reverted = Signal()
    chosen = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Versions", parent)
        self.list = QListWidget()
        self.list.setToolTip("Every version stays on the disk until you delete its session.")
        self.revert = QPushButton("Revert")
        self.revert.setToolTip("Go back to the model that the current one was refined from.")
        self.use = QPushButton("Use selected")
        self.use.setToolTip("Make the selected version the model that is used.")
        buttons = QHBoxLayout()
        buttons.addWidget(self.revert, 1)
        buttons.addWidget(self.use, 1)
        framed(self, self.list, buttons)
        self.revert.clicked.connect(self.reverted)
        self.use.clicked.connect(self._choose)
        self.list.itemSelectionChanged.connect(self._enable)
        self._current = -1
        self._busy = self._can_revert = False
        self.hide()

    def show_versions(self, versions: Sequence[Version], current: int) -> None:
        """List versions, the newest first."""
        self._current = current
        self.list.clear()
        for version in reversed(versions):
            item = QListWidgetItem(version_line(version, version.number == current))
            item.setData(Qt.ItemDataRole.UserRole, version.number)
            item.setToolTip(plain_tooltip(_tooltip(version)))
            self.list.addItem(item)
        rows = min(max(len(versions), 2), _MOST_ROWS)
        self.list.setFixedHeight(rows * _ROW + 8)
        parents = {v.number: v.parent for v in versions}
        self._can_revert = parents.get(current) is not None
        self._enable()
        self.setVisible(len(versions) > 1)

    def set_busy(self, busy: bool) -> None:
        """Nothing is changed while a training goes on."""
        self._busy = busy
        self._enable()

    def _selected(self) -> int | None:
        items = self.list.selectedItems()
        return int(items[0].data(Qt.ItemDataRole.UserRole)) if items else None

    def _choose(self) -> None:
        number: Any = self._selected()
        if number is not None:
            self.chosen.emit(number)

    def _enable(self) -> None:
        self.revert.setEnabled(self._can_revert and not self._busy)
        selected = self._selected()
        self.use.setEnabled(selected not in (None, self._current) and not self._busy)


def version_line(version: Version, current: bool) -> str:
    """Return one version in one line."""
    mark = "●" if current else "○"
    if version.number == 0:
        return f"{mark} 0 · as it was"
    verdict = version.verdict
    finding = str(verdict.get("finding", ""))
    finding = {"too little to judge": "not proven"}.get(finding, finding)
    line = f"{mark} {version.number} · {version.created[11:16]} · {finding}"
    old, new = verdict.get("old"), verdict.get("new")
    if old is not None and new is not None:
        line += f" ({100 * old:.0f} → {100 * new:.0f} %)"
    return line


def _tooltip(version: Version) -> str:
    parent = "" if version.parent is None else f"Refined from version {version.parent}.\n"
    return f"{parent}{version.verdict.get('reason', '')}\nMade {version.created}".strip()
