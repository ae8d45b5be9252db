"""Which parts of a layer were painted on since they were read last."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.gui.canvas import Canvas
    from unet_studio.training.repainted import Marks, Tiles


class StrokeWatch:
    """Marks the tiles of a layer that may have changed, from what napari tells of it.

    While a stroke is painted napari tells which part of the screen has changed, and at its
    end which pixels. Of undo and redo it tells only that the layer is shown anew, as it is
    when the slice, the order of axes or the point of view changes: if none of these did,
    everything may have changed.

    Parameters
    ----------
    viewer : napari viewer
    canvas : Canvas
    touched : callable
        Called whenever something was marked.
    """

    def __init__(self, viewer: Viewer, canvas: Canvas, touched: Callable[[], None]) -> None:
        self._viewer, self._canvas, self._touched = viewer, canvas, touched
        # Dimensions of the layer in the order of the axes of annotations.
        self._dims = [canvas.layer_axes.index(a) for a in canvas.order]
        self._lock = threading.Lock()
        self._tiles, self._everything = canvas.tiles(), True
        self._marks = self._tiles.marks()
        self._seen_at = self._point_of_view()
        self._follow("connect")

    def take(self) -> tuple[Tiles, Marks]:
        """Return the tiles, and marks on those to read; none is marked afterwards.

        Raises
        ------
        AnnotationError
            If the layer was given an array of other dimensions.
        """
        with self._lock:
            if self._everything:
                self._tiles = self._canvas.tiles()
                self._marks = self._tiles.marks(every=True)
                self._everything = False
            marks, self._marks = self._marks, self._tiles.marks()
            return self._tiles, marks

    def give_back(self, marks: Marks) -> None:
        """Mark what was taken, and could not be read."""
        with self._lock:
            if marks.shape == self._marks.shape:
                self._marks |= marks

    def mark_all(self) -> None:
        """Mark everything: scripts change pixels without telling."""
        with self._lock:
            self._everything = True

    def release(self) -> None:
        """Stop following the layer."""
        self._follow("disconnect")

    def _follow(self, method: str) -> None:
        events = self._canvas.labels.events
        getattr(events.labels_update, method)(self._on_screen)
        getattr(events.paint, method)(self._on_paint)
        getattr(events.data, method)(self._on_data)
        getattr(events.set_data, method)(self._on_shown)

    def _mark(self, start: Sequence[int], stop: Sequence[int]) -> None:
        """Mark a box along the dimensions of the layer."""
        low, high = [start[d] for d in self._dims], [stop[d] for d in self._dims]
        with self._lock:
            self._tiles.mark(self._marks, low, high)

    def _on_paint(self, event: Any) -> None:
        for change in event.value:
            self._mark(*_box_of(change))
        self._touched()

    def _on_screen(self, event: Any) -> None:
        layer, dims = self._canvas.labels, self._viewer.dims
        start, stop = [0] * layer.ndim, list(layer.data.shape)
        extra = dims.ndim - layer.ndim
        displayed = [d - extra for d in dims.displayed if d >= extra]
        if len(displayed) == len(event.offset):
            for d, first, count in zip(displayed, event.offset, event.data.shape, strict=False):
                start[d], stop[d] = int(first), int(first) + count
        if layer.n_edit_dimensions <= len(displayed):
            here = np.round(layer.world_to_data(dims.point)[-layer.ndim :])
            for d in set(range(layer.ndim)) - set(displayed):
                start[d] = min(max(int(here[d]), 0), stop[d] - 1)
                stop[d] = start[d] + 1
        self._mark(start, stop)
        self._touched()

    def _on_data(self, _event: Any = None) -> None:
        self.mark_all()
        self._touched()

    def _on_shown(self, _event: Any = None) -> None:
        before, self._seen_at = self._seen_at, self._point_of_view()
        if self._seen_at == before:
            self.mark_all()
            self._touched()

    def _point_of_view(self) -> tuple[Any, ...]:
        dims = self._viewer.dims
        return tuple(dims.point), tuple(dims.order), dims.ndisplay


def _box_of(change: Any) -> tuple[list[int], list[int]]:
    """Return the box of one of the changes that a paint event of napari tells of.

    Painting tells of a box of slices, writing by numbers of positions along each axis.
    """
    parts = getattr(change, "slice_key", None)
    if parts is not None:
        return [part.start for part in parts], [part.stop for part in parts]
    return [int(np.min(p)) for p in change[0]], [int(np.max(p)) + 1 for p in change[0]]
