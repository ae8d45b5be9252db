"""One image layer of ours that shows what a network finds in a part of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unet_studio.gui.layers import METADATA_KEY, unwrap
from unet_studio.gui.live_view import shown_at

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer
    from numpy.typing import NDArray

    from unet_studio.gui.canvas import Canvas
    from unet_studio.gui.placement import Placement
    from unet_studio.training.glimpse import Glimpse

Shown = Literal["foreground", "uncertainty"]
_LOOKS = {"foreground": "prediction (live)", "uncertainty": "uncertainty"}
# Clear where there is nothing to show, so that the image stays to be seen.
_COLOURS = {
    "foreground": [[0.0, 0.85, 0.45, 0.0], [0.0, 0.85, 0.45, 1.0]],
    "uncertainty": [[0.8, 0.1, 0.5, 0.0], [0.95, 0.3, 0.35, 0.5], [1.0, 0.95, 0.4, 1.0]],
}


class Overlay:
    """Shows glimpses; keeps out of the way of what the user has selected.

    If the user deletes the layer, it stays deleted until :meth:`begin`.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._layer: Image | None = None
        self._glimpses: tuple[Canvas, Glimpse, Glimpse | None] | None = None
        self._on: tuple[str, Placement] | None = None
        self._wanted = False
        self.kind: Shown = "foreground"
        self.swipe = 1.0

    @property
    def layer(self) -> Image | None:
        """The layer, if it is in the viewer."""
        there = any(unwrap(other) is self._layer for other in self._viewer.layers)
        return self._layer if there else None

    @property
    def glimpse(self) -> Glimpse | None:
        """What is shown."""
        return None if self._glimpses is None else self._glimpses[1]

    def begin(self) -> None:
        """Show what comes from now on, also if the user removed the layer before."""
        self._wanted = True

    def show(self, canvas: Canvas, glimpse: Glimpse, before: Glimpse | None = None) -> None:
        """Show what a network finds.

        Parameters
        ----------
        canvas : Canvas
            Of the image.
        glimpse : Glimpse
        before : Glimpse, optional
            What the old model finds there: shown right of the swipe's position.
        """
        self._glimpses = (canvas, glimpse, before)
        self.draw()

    def draw(self) -> None:
        """Draw what is to be shown now."""
        if self._glimpses is None:
            return
        canvas, glimpse, before = self._glimpses
        pixels = self._pixels(glimpse)
        if before is not None:
            edge = round(self.swipe * pixels.shape[-1])
            pixels = pixels.copy()
            pixels[..., edge:] = self._pixels(before)[..., edge:]
        self._put(canvas, glimpse, pixels)

    def clear(self) -> None:
        """Take the layer out of the viewer, and forget what was shown."""
        self._glimpses = None
        self.hide()

    def hide(self) -> None:
        """Take the layer out of the viewer: it is ours."""
        layer, self._layer = self.layer, None
        self._wanted = False
        if layer is not None:
            with _selection_kept(self._viewer):
                self._viewer.layers.remove(layer)

    def _pixels(self, glimpse: Glimpse) -> NDArray[np.float32]:
        return glimpse.foreground if self.kind == "foreground" else glimpse.uncertainty

    def _put(self, canvas: Canvas, glimpse: Glimpse, pixels: NDArray[np.float32]) -> None:
        start, lengths = shown_at(canvas, glimpse.view)
        axes = [a for a in canvas.axes if a in "ZYX"[-pixels.ndim :]]
        pixels = pixels.transpose(["ZYX"[-pixels.ndim :].index(a) for a in axes])
        data = np.ascontiguousarray(pixels).reshape(lengths)
        place = canvas.placement
        linear = place.rotate @ place.shear @ np.diag(place.scale)
        translate = place.translate + linear @ np.asarray(start, float)
        layer = self.layer
        if layer is None:
            if not self._wanted:
                return
            self._add(canvas, data, {**place.keywords(), "translate": translate})
        else:
            if layer.ndim == data.ndim and self._lies_as(canvas):
                layer.translate = translate
                layer.data = data
            else:
                self._remove_quietly(layer)
                self._add(canvas, data, {**place.keywords(), "translate": translate})
        self._dress()
        self._wanted = False

    def _add(self, canvas: Canvas, data: NDArray[np.float32], keywords: dict[str, Any]) -> None:
        from napari.layers import Image

        layer = Image(
            data, name=_LOOKS[self.kind], colormap=_colormap(self.kind), contrast_limits=(0, 1),
            opacity=0.6, blending="translucent_no_depth",
            metadata={METADATA_KEY: {"overlay": True}}, **keywords,
        )  # fmt: skip
        layers = [unwrap(other) for other in self._viewer.layers]
        below = layers.index(canvas.labels) if canvas.labels in layers else len(layers)
        with _selection_kept(self._viewer):
            self._viewer.layers.insert(below, layer)
        self._layer, self._on = layer, (canvas.key, canvas.placement)

    def _lies_as(self, canvas: Canvas) -> bool:
        """Whether the layer was made for an image that lies where this one does."""
        key, placement = self._on or ("", None)
        return key == canvas.key and placement is canvas.placement

    def _remove_quietly(self, layer: Image) -> None:
        with _selection_kept(self._viewer):
            self._viewer.layers.remove(layer)

    def _dress(self) -> None:
        layer = self._layer
        if layer is not None and str(layer.colormap.name) != f"unet-studio-{self.kind}":
            layer.colormap, layer.name = _colormap(self.kind), _LOOKS[self.kind]


def _colormap(kind: Shown) -> Any:
    from napari.utils import Colormap

    return Colormap(_COLOURS[kind], name=f"unet-studio-{kind}")


class _selection_kept:
    """Adding a layer selects it, which would take the brush out of the user's hand."""

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def __enter__(self) -> None:
        selection = self._viewer.layers.selection
        self._active, self._selected = selection.active, set(selection)

    def __exit__(self, *_error: object) -> None:
        selection = self._viewer.layers.selection
        there = {unwrap(layer) for layer in self._viewer.layers}
        kept = {layer for layer in self._selected if unwrap(layer) in there}
        if kept:
            selection.clear()
            selection.update(kept)
            if self._active is not None and unwrap(self._active) in there:
                selection.active = self._active
