"""Mouse and keys on the prompts layer, turned into what the user means."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.gui.click_layers import MARK_PX, ClickLayers

if TYPE_CHECKING:
    from napari.viewer import Viewer

# What each key does, and the method of Actions that does it. The first
# key of a line is shown first. None of them is one of napari's own on a points layer.
KEYS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("T",), "toggle_polarity", "the next clicks are negative, or positive again"),
    (("Enter", "C"), "commit", "commit the object"),
    (("N",), "next_object", "commit, and go on with a new object"),
    (("R",), "reset", "drop the object"),
    (("Control-Z",), "undo", "undo: a click, a commit, a propagation"),
    (("Control-Shift-Z",), "redo", "redo"),
    (("F",), "choose_correct", "the next click takes an object of the labels to correct"),
    (("G",), "choose_pick", "the next click takes an object of the Segment result"),
    (("E",), "choose_erase", "the next click erases an object of the labels"),
    (("B",), "draw_box", "draw a box around the object"),
    (("D",), "draw_stroke", "draw a stroke on the object"),
)
MOUSE: tuple[tuple[str, str], ...] = (
    ("Click", "on the object; on a click that is there: take it back"),
    ("Shift+click", "negative: not part of the object"),
    ("Ctrl+click", "correct the object of the labels under the cursor"),
    ("Alt+click", "take the object of the Segment result under the cursor"),
)
_MODIFIERS = ("Shift", "Control", "Alt")
_STILL_PX = 4.0  # a press that moves less than this is a click, else it moves the view


def shown_key(key: str) -> str:
    """Return a key as people write it."""
    return key.replace("Control", "Ctrl").replace("-", "+")


class Pointer(QObject):
    """Listens to the layers of a session of clicks.

    Parameters
    ----------
    viewer : napari viewer
    layers : ClickLayers
    actions : QObject
        Has the methods that :data:`KEYS` names; the pointer belongs to it.
    """

    clicked = Signal(object, object)  # world position, set of modifiers
    unclicked = Signal(object)  # Mark
    added = Signal(object, object)  # position in the image, polarity of a moved mark or None
    drawn = Signal(object, str)  # vertices in the image (n, axes), kind of shape

    def __init__(self, viewer: Viewer, layers: ClickLayers, actions: QObject) -> None:
        super().__init__(actions)
        self._viewer, self._layers = viewer, layers
        self._points_timer = _at_once(self, self._compare)
        self._shapes_timer = _at_once(self, self._tell_shapes)
        pointer = weakref.ref(self)

        def press(_layer: Any, event: Any) -> Generator[None, None, None]:
            """Take a press without a drag as a click."""
            yield from _press(pointer, event)

        self._press = press
        layers.prompts.mouse_drag_callbacks.append(press)
        layers.prompts.events.data.connect(self._on_points)
        layers.shapes.events.data.connect(self._on_shapes)
        for keys, method, _ in KEYS:
            for key in keys:
                layers.prompts.bind_key(key, _calling(weakref.ref(actions), method))
        layers.shapes.bind_key("Escape", _calling(weakref.ref(actions), "back_to_clicks"))

    def release(self) -> None:
        """Stop listening."""
        layers = self._layers
        self._points_timer.stop()
        self._shapes_timer.stop()
        if self._press in layers.prompts.mouse_drag_callbacks:
            layers.prompts.mouse_drag_callbacks.remove(self._press)
        layers.prompts.events.data.disconnect(self._on_points)
        layers.shapes.events.data.disconnect(self._on_shapes)
        for keys, _, _ in KEYS:
            for key in keys:
                layers.prompts.bind_key(key, None)
        layers.shapes.bind_key("Escape", None)

    def take(self, event: Any) -> None:
        """Tell of a click at an event of the mouse."""
        modifiers = {name for name in _MODIFIERS if name in event.modifiers}
        world = tuple(float(p) for p in event.position)
        if not modifiers:
            reach = MARK_PX / 2 / max(_zoom(self._viewer), 1e-9)
            mark = self._layers.mark_near(world, reach)
            if mark is not None:
                self.unclicked.emit(mark)
                return
        self.clicked.emit(world, modifiers)

    @property
    def in_use(self) -> bool:
        """Whether a press on the prompts layer is ours, not that of a tool of napari's."""
        return str(self._layers.prompts.mode) == "pan_zoom"

    def _on_points(self, event: Any) -> None:
        """Follow points that were added, moved or removed with napari's own tools."""
        if not self._layers.writing and str(event.action) in ("added", "removed", "changed"):
            self._points_timer.start()  # not while napari is still at it

    def _compare(self) -> None:
        layers = self._layers
        there = [layers.from_layer(p) for p in np.asarray(layers.prompts.data)]
        marks = layers.marks
        for mark in marks:
            if not any(np.allclose(mark.position, p) for p in there):
                self.unclicked.emit(mark)
        # As many as before: they were moved, in their order, and stay what they were.
        moved = len(there) == len(marks)
        for index, position in enumerate(there):
            if not any(np.allclose(position, mark.position) for mark in marks):
                self.added.emit(position, marks[index].positive if moved else None)

    def _on_shapes(self, event: Any) -> None:
        if not self._layers.writing and str(event.action) == "added":
            self._shapes_timer.start()

    def _tell_shapes(self) -> None:
        shapes, layers = self._layers.shapes, self._layers
        if not len(shapes.data):
            return
        corners = [layers.from_layer(vertex) for vertex in np.asarray(shapes.data[-1])]
        kind = str(shapes.shape_type[-1])
        layers.clear_shapes()
        self.drawn.emit(np.asarray(corners), kind)


def _at_once(parent: QObject, method: Callable[[], None]) -> QTimer:
    """Return a timer that calls a method once, as soon as events are processed."""
    timer = QTimer(parent)
    timer.setSingleShot(True)
    timer.setInterval(0)
    timer.timeout.connect(method)
    return timer


def _zoom(viewer: Viewer) -> float:
    """Return pixels of the screen per unit of the world."""
    return float(getattr(viewer, "scene", viewer).camera.zoom)  # napari before 0.9: no scene


def _press(pointer: weakref.ref[Pointer], event: Any) -> Generator[None, None, None]:
    here = pointer()
    if here is None or event.button != 1 or not here.in_use:
        return
    start = np.asarray(event.pos, float)
    farthest = 0.0
    yield
    while event.type == "mouse_move":
        farthest = max(farthest, float(np.abs(np.asarray(event.pos, float) - start).max()))
        yield
    if farthest < _STILL_PX:
        here.take(event)


def _calling(owner: weakref.ref[QObject], method: str) -> Callable[[Any], None]:
    def act(_layer: Any) -> None:
        if (found := owner()) is not None:
            getattr(found, method)()

    act.__doc__ = method.replace("_", " ").capitalize()
    return act
