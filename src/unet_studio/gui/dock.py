"""The dock widget: model on top, one tab per task below."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QTabWidget, QVBoxLayout, QWidget

from unet_studio.gui.graphics import enter_canvas
from unet_studio.gui.leaving import close_windows_at_exit
from unet_studio.gui.model_header import ModelHeader
from unet_studio.gui.settings import read_settings
from unet_studio.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image

# Title to class. A tab is built with (viewer, header) and has
# run_or_cancel(), choose_layer(layer), stop_work(), shut_down(), set_theme(name).
TABS: Registry[Any] = Registry(
    "tab",
    {
        "Segment": "unet_studio.gui.segment_tab:SegmentTab",
        "Click": "unet_studio.gui.click_tab:ClickTab",
        "Refine": "unet_studio.gui.refine_tab:RefineTab",
        "Batch": "unet_studio.gui.batch_tab:BatchTab",
    },
    entry_points="unet_studio.tabs",
)
# Free of napari's own keys; acts on the tab in front.
RUN_KEY = "Control-Shift-U"
_WIDTH = 370


class StudioWidget(QWidget):
    """U-Net Studio in napari.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
    """

    # Of the class: PySide still brings events when the collector has emptied the instance.
    _window: QWidget | None = None

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:  # noqa: F821
        super().__init__()
        self._viewer = napari_viewer
        self._docked = self._shut = self._closing = False
        self.header = ModelHeader(read_settings().device)
        self.tabs = QTabWidget()
        self.tabs.setTabBarAutoHide(True)
        self.tabs.setDocumentMode(True)
        for title in TABS:
            self.tabs.addTab(TABS.load(title)(napari_viewer, self.header), title)
        self._lay_out()
        self._bind_keys()
        napari_viewer.events.theme.connect(self._on_theme)
        # Of `removed`, napari itself would be told first.
        napari_viewer.layers.events.removing.connect(self._before_removal)
        close_windows_at_exit()

    @property
    def tab(self) -> Any:
        """The tab in front."""
        return self.tabs.currentWidget()

    def open_model(self, path: str | Path) -> None:
        """Choose a model file.

        Raises
        ------
        ModelError
            If it is missing, damaged, or no model file.
        """
        self.header.open_file(path)

    def choose_layer(self, layer: Image) -> None:
        """Select the image to work on."""
        self.tab.choose_layer(layer)

    def shut_down(self) -> None:
        """Stop all work and let go of the viewer. Called when the dock is closed."""
        if self._shut:
            return
        self._shut = True
        self.header.stop_work()
        for index in range(self.tabs.count()):
            self.tabs.widget(index).shut_down()
        self._viewer.bind_key(RUN_KEY, None)
        self._viewer.events.theme.disconnect(self._on_theme)
        self._viewer.layers.events.removing.disconnect(self._before_removal)
        self._filter(None)

    def event(self, event: QEvent) -> bool:
        """Notice when the dock takes the widget in, and when it lets it go for good."""
        if event.type() == QEvent.Type.ParentChange and not self._shut:
            if self.parent() is not None:
                self._docked = True
            elif self._docked:
                self.shut_down()
                self.deleteLater()
        elif event.type() == QEvent.Type.Show:
            self._filter(self.window())
            self.header.refresh()
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Stop all work when napari's window closes, but not if it asks and is told to stay."""
        if watched is self._window and not self._shut:
            if event.type() == QEvent.Type.Close:
                # napari asks if the user closes the window, and only once this event is through.
                self._closing = event.spontaneous()
                if not self._closing:
                    self._stop_work()
            elif event.type() == QEvent.Type.Hide and self._closing and not event.spontaneous():
                self._stop_work()  # nobody said Cancel
        return False

    def _stop_work(self) -> None:
        self._closing = False
        self.header.stop_work()
        for index in range(self.tabs.count()):
            self.tabs.widget(index).stop_work()

    def _lay_out(self) -> None:
        content = QWidget()
        inside = QVBoxLayout(content)
        inside.setContentsMargins(8, 8, 8, 8)
        inside.setSpacing(10)
        inside.addWidget(self.header)
        inside.addWidget(self.tabs, 1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(content)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(scroll)
        self.setMinimumWidth(_WIDTH)

    def _bind_keys(self) -> None:
        studio = weakref.ref(self)

        def segment_or_cancel(_viewer: Any) -> None:
            """Start or stop the run of U-Net Studio."""
            if (widget := studio()) is not None:
                widget.tab.run_or_cancel()

        self._viewer.bind_key(RUN_KEY, segment_or_cancel, overwrite=True)

    def _on_theme(self, event: Any) -> None:
        for index in range(self.tabs.count()):
            self.tabs.widget(index).set_theme(event.value)

    def _before_removal(self, _event: Any) -> None:
        enter_canvas(self)

    def _filter(self, window: QWidget | None) -> None:
        if self._window is not None:
            self._window.removeEventFilter(self)
        self._window = window
        if window is not None:
            window.installEventFilter(self)
