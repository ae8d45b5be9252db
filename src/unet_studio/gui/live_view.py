"""The part of an image that is on the screen, looked at while a network learns."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.gui.canvas import Canvas
    from unet_studio.models.card import ModelCard
    from unet_studio.training.glimpse import Glimpse, View

# What is looked at of a larger view: about a second on two cores.
_LARGEST = 640
_SHORTEST_WAIT, _LONGEST_WAIT = 1.5, 8.0
# At most so much of the time goes into looking.
_SHARE = 0.15


class LiveView:
    """Between two threads: the window says where, the training says what it finds there.

    Nothing here blocks the window: it leaves a wish and takes what is ready.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._lock = threading.Lock()
        self._wanted: View | None = None
        self._found: Glimpse | None = None
        self._next = 0.0

    @property
    def wanted(self) -> View | None:
        """What is on the screen."""
        with self._lock:
            return self._wanted

    def want(self, view: View | None) -> None:
        """Say what is on the screen; another place is looked at soon."""
        with self._lock:
            if view != self._wanted:
                self._wanted, self._next = view, 0.0

    def hurry(self) -> None:
        """Look again soon: something was painted."""
        with self._lock:
            self._next = min(self._next, time.monotonic() + _SHORTEST_WAIT)

    def take(self) -> Glimpse | None:
        """Return what was found since the last call."""
        with self._lock:
            found, self._found = self._found, None
        return found

    def watch(self, network: Any, exercises: Sequence[Any]) -> None:
        """Look, if it is time to. Called on the training's thread after each step."""
        from unet_studio.training.glimpse import look

        with self._lock:
            view = self._wanted
            if view is None or time.monotonic() < self._next:
                return
        if view.exercise >= len(exercises):
            return
        began = time.monotonic()
        glimpse = look(network, exercises[view.exercise], view, self.card)
        took = time.monotonic() - began
        with self._lock:
            self._found = glimpse
            wait = min(max(took / _SHARE, _SHORTEST_WAIT), _LONGEST_WAIT)
            self._next = time.monotonic() + wait


def visible_view(viewer: Viewer, canvas: Canvas, number: int, card: ModelCard) -> View | None:
    """Return the part of an image that is on the screen, None if none of it is.

    Parameters
    ----------
    viewer : napari viewer
    canvas : Canvas
    number : int
        Of the image.
    card : ModelCard
    """
    from unet_studio.training.glimpse import View

    layer = canvas.labels
    axes = canvas.layer_axes
    y, x = axes.index("Y"), axes.index("X")
    lengths = layer.data.shape
    low, high = np.zeros(layer.ndim), np.asarray(lengths, float)
    displayed = set(viewer.dims.displayed)
    offset = viewer.dims.ndim - layer.ndim
    corners = np.asarray(layer.corner_pixels, float)
    here = np.asarray(layer.world_to_data(viewer.dims.point)[-layer.ndim :])
    for axis in range(layer.ndim):
        if axis + offset in displayed:
            low[axis], high[axis] = corners[0][axis], corners[1][axis] + 1
        else:
            low[axis] = np.clip(round(float(here[axis])), 0, lengths[axis] - 1)
            high[axis] = low[axis] + 1
    for axis in (y, x):
        low[axis], high[axis] = _shortened(low[axis], high[axis], lengths[axis])
    if not (low < high).all():
        return None
    start = {a: int(low[i]) for i, a in enumerate(axes) if a != "C"}
    stop = {a: int(high[i]) for i, a in enumerate(axes) if a != "C"}
    spatial = "ZYX"[-card.ndim :]
    frame = tuple(start[a] for a in "TZ" if a in start and a not in spatial)
    return View(number, frame, tuple(start[a] for a in spatial), tuple(stop[a] for a in spatial))


def _shortened(low: float, high: float, length: int) -> tuple[float, float]:
    low, high = max(0.0, np.floor(low)), min(float(length), np.ceil(high))
    if high - low > _LARGEST:
        middle = (low + high) / 2
        low, high = np.floor(middle - _LARGEST / 2), np.floor(middle + _LARGEST / 2)
    return low, high


def shown_at(canvas: Canvas, view: View) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return first pixel and lengths of a view along the dimensions of the canvas' layer."""
    axes = canvas.layer_axes
    spatial = "ZYX"[-len(view.start) :]
    outer = [a for a in "TZ" if a in axes and a not in spatial]
    start = dict(zip(outer, view.frame, strict=True)) | dict(zip(spatial, view.start, strict=True))
    length = dict.fromkeys(outer, 1) | {
        a: s - b for a, b, s in zip(spatial, view.start, view.stop, strict=True)
    }
    return (
        tuple(start.get(a, 0) for a in axes),
        tuple(length.get(a, 1) for a in axes),
    )
