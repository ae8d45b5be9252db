"""Entries of napari's menus and of its command palette."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unet_studio.gui.messages import notify_error
from unet_studio.gui.settings import PLUGIN, WIDGET

if TYPE_CHECKING:
    from unet_studio.gui.dock import StudioWidget


def open_studio(viewer: Any) -> StudioWidget:
    """Open the dock widget in a viewer, or return the one that is open."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, WIDGET)
    return widget


def segment_active_layer(viewer: napari.viewer.Viewer) -> None:  # noqa: F821
    """Segment the selected image with the current settings."""
    from napari.layers import Image

    from unet_studio.gui.layers import unwrap

    layer = unwrap(viewer.layers.selection.active)
    if not isinstance(layer, Image):
        notify_error("Select one image layer in the layer list first, then choose this again.")
        return
    studio = open_studio(viewer)
    studio.choose_layer(layer)
    if not studio.tab.runner.running:
        studio.tab.run_or_cancel()
