"""A combo box of the labels layers that objects of an image can go to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unet_studio.gui.click_target import is_computed
from unet_studio.gui.layer_box import LayerBox

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.layers import Labels, Layer
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

_NEW = "New labels"
_WHERE = (
    "Where committed objects go: labels of this image, or new ones. They are written with "
    "the next free number, and Ctrl+Z in the labels layer takes them back."
)


class LabelsBox(LayerBox):
    """Labels that suit, after new ones; nothing but new labels is chosen by itself.

    Parameters
    ----------
    viewer : napari viewer
    suits : callable
        Whether a layer can be chosen.
    parent : QWidget, optional
    """

    def __init__(
        self, viewer: Viewer, suits: Callable[[Layer], bool], parent: QWidget | None = None
    ) -> None:
        super().__init__(viewer, suits, parent, none=_NEW)

    def value(self) -> Labels | None:
        """Return the chosen layer, None for new labels."""
        return super().value()

    def _dress(self, found: list[Layer]) -> None:
        self.setToolTip(_tooltip(found))


def _tooltip(layers: list[Layer]) -> str:
    """Say where objects go, and why labels that somebody may look for are not listed."""
    from napari.layers import Labels

    computed = [repr(str(x.name)) for x in layers if isinstance(x, Labels) and is_computed(x)]
    if not computed:
        return _WHERE
    return (
        f"{_WHERE}\nNot listed: {', '.join(computed)}. A dask array is computed anew whenever it "
        "is read, and can not keep objects. Save the layer, and open it again, or pass "
        "numpy or zarr labels."
    )
