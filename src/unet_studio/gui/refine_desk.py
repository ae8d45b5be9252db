"""What is being annotated: the layers, the session on the disk, and what joins them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.errors import UNetStudioError
from unet_studio.gui.canvas import (
    Canvas,
    Kind,
    boxes_in,
    fill_in,
    find_result,
    make_canvas,
    make_rectangles,
    show_boxes,
)
from unet_studio.gui.canvas_found import found_canvases, found_rectangles, lacking
from unet_studio.gui.layers import METADATA_KEY, unwrap
from unet_studio.gui.stroke_keeper import StrokeKeeper
from unet_studio.training.session import Session, new_session, session_of

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

    from unet_studio.gui.input_form import InputChoice
    from unet_studio.training.annotations import Annotations


class RefineDesk(QObject):
    """Keeps every painted image with its keeper, and the session they belong to."""

    painted = Signal(object)  # Canvas whose annotations are on the disk now
    failed = Signal(str)
    changed = Signal()  # a layer came or went

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.session: Session | None = None
        self.canvases: list[Canvas] = []
        self._keepers: dict[Canvas, StrokeKeeper] = {}
        self._rectangles: dict[Canvas, Shapes] = {}
        self._known: dict[Canvas, Annotations] = {}
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    # -- layers -----------------------------------------------------------------

    def find(self, choice: InputChoice | None, kind: Kind) -> Canvas | None:
        """Return the layer that an image is annotated in, None if there is none yet."""
        image = None if choice is None else unwrap(choice.layer)
        for canvas in self.canvases:
            same_level = choice is not None and canvas.choice.level == choice.level
            if canvas.image() is image and canvas.kind == kind and same_level:
                return canvas
        return None

    def open(self, choice: InputChoice, kind: Kind) -> tuple[Canvas, str]:
        """Return a layer to paint in, made if there is none, and what to tell of it.

        Raises
        ------
        UNetStudioError
        """
        canvas, told = self.find(choice, kind), ""
        if canvas is None:
            result = find_result(self._viewer, unwrap(choice.layer))
            canvas = make_canvas(choice, kind, result if kind == "corrections" else None)
            told = self._restore(canvas)
            self._add(canvas)  # known before it is seen in the window
            self._viewer.add_layer(canvas.labels)
        self._viewer.layers.selection.active = canvas.labels
        canvas.labels.mode = "paint"
        return canvas, told

    def take_up(self, choice: InputChoice | None) -> str:
        """Go on with annotations of an image that are in the window; return what to tell."""
        if choice is None:
            return ""
        told = ""
        try:
            for canvas in found_canvases(self._viewer, choice, [c.labels for c in self.canvases]):
                shapes = found_rectangles(self._viewer, canvas)
                if shapes is not None:
                    self._rectangles[canvas] = shapes
                told = self._restore(canvas, found=True)
                self._add(canvas)
                self._keepers[canvas].touch()
        except UNetStudioError:
            return ""  # nobody asked; whoever paints on the image is told
        return told

    def rectangles(self, canvas: Canvas) -> Shapes:
        """Return the layer of complete regions, made if there is none, ready to draw in."""
        shapes = self._rectangles.get(canvas)
        if shapes is None:
            shapes = self._add_rectangles(canvas)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        return shapes

    def read(self, canvas: Canvas) -> Annotations:
        """Return what is known of an image by now.

        Raises
        ------
        UNetStudioError
        """
        found = canvas.annotations(boxes_in(self._rectangles.get(canvas), canvas))
        # Erased between finding the pixels and reading them, on another thread.
        return found if (found.values > 0).all() else found.only(found.values > 0, found.complete)

    def known(self, canvas: Canvas) -> Annotations | None:
        """Return what was last saved of an image; None if nothing was."""
        return self._known.get(canvas)

    def saving(self) -> bool:
        """Whether something is not on the disk yet."""
        return any(keeper.busy for keeper in self._keepers.values())

    def flush(self) -> None:
        """Save what is not saved."""
        for keeper in self._keepers.values():
            keeper.flush()

    def release(self) -> None:
        """Let go of all layers; they stay in the viewer."""
        self.flush()
        self._soon.stop()
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for canvas in list(self.canvases):
            self._forget(canvas)

    # -- sessions ---------------------------------------------------------------

    def begin(self, name: str) -> Session:
        """Begin a new session with all that is painted now.

        Raises
        ------
        UNetStudioError
        """
        self.session = new_session(name)
        for canvas in self.canvases:
            self._save(canvas, self.read(canvas))
        return self.session

    def _restore(self, canvas: Canvas, found: bool = False) -> str:
        """Bring back what was kept of an image; return what to tell.

        Parameters
        ----------
        canvas : Canvas
        found : bool
            Its layer was in the window already: what it holds counts more.
        """
        key = _key(canvas)
        if self.session is None or key not in [i.key for i in self.session.images]:
            earlier = session_of(key)
            if earlier is None or self.session is not None:
                self._session(canvas).image_number(key, canvas.name)
                return ""
            self.session = earlier
        number = self.session.image_number(key, canvas.name)
        if found and _facts(canvas).get("session") == self.session.folder.name:
            return ""  # what was kept was of this layer, and it may have been changed since
        kept = self.session.strokes(number)
        if kept is None or not (len(kept) or kept.complete):
            return ""
        shape = canvas.array().shape
        if kept.shape != tuple(shape[canvas.axes.index(a)] for a in kept.axes):
            return ""
        if found:
            kept = lacking(canvas, kept)
        fill_in(canvas, kept)
        if kept.complete and canvas not in self._rectangles:
            show_boxes(self._add_rectangles(canvas), canvas, kept.complete, kept.axes)
        if not found:
            self._known[canvas] = kept
        if not len(kept):
            return ""
        return f"{len(kept):,} painted pixels of an earlier session were brought back."

    def _session(self, canvas: Canvas) -> Session:
        if self.session is None:
            self.session = new_session(canvas.name)
        return self.session

    def _save(self, canvas: Canvas, annotations: Annotations) -> None:
        session = self._session(canvas)
        number = session.image_number(_key(canvas), canvas.name)
        session.save_strokes(number, annotations)
        _facts(canvas)["session"] = session.folder.name

    # -- keeping up with the layers -----------------------------------------------

    def _add(self, canvas: Canvas) -> None:
        keeper = StrokeKeeper(
            lambda: self.read(canvas), lambda found: self._save(canvas, found), self
        )
        keeper.saved.connect(lambda found: self._on_saved(canvas, found))
        keeper.failed.connect(self.failed)
        for emitter in _emitters(canvas.labels):
            emitter.connect(keeper.touch)
        self.canvases.append(canvas)
        self._keepers[canvas] = keeper
        if (shapes := self._rectangles.get(canvas)) is not None:
            shapes.events.data.connect(keeper.touch)
        self.changed.emit()

    def _add_rectangles(self, canvas: Canvas) -> Shapes:
        shapes = make_rectangles(canvas)
        self._viewer.add_layer(shapes)
        self._rectangles[canvas] = shapes
        if (keeper := self._keepers.get(canvas)) is not None:
            shapes.events.data.connect(keeper.touch)
        return shapes

    def _on_saved(self, canvas: Canvas, annotations: Annotations) -> None:
        self._known[canvas] = annotations
        self.painted.emit(canvas)

    def _on_inserted(self, event: Any) -> None:
        record = unwrap(event.value).metadata.get(METADATA_KEY)
        if isinstance(record, dict) and "annotations_of" in record:
            self._soon.start()  # when napari shows the layer, too

    def _on_removed(self, event: Any) -> None:
        gone = unwrap(event.value)
        for canvas in list(self.canvases):
            if canvas.labels is gone:
                self._forget(canvas)
                self.changed.emit()
            elif self._rectangles.get(canvas) is gone:
                del self._rectangles[canvas]
                self._keepers[canvas].touch()

    def _forget(self, canvas: Canvas) -> None:
        keeper = self._keepers.pop(canvas)
        keeper.flush()
        for emitter in _emitters(canvas.labels):
            emitter.disconnect(keeper.touch)
        shapes = self._rectangles.pop(canvas, None)
        if shapes is not None:
            shapes.events.data.disconnect(keeper.touch)
        keeper.deleteLater()
        self._known.pop(canvas, None)
        self.canvases.remove(canvas)


def _emitters(labels: Any) -> tuple[Any, ...]:
    """Return what tells of painting, of undoing it, and of exchanged data."""
    events = labels.events
    return events.paint, events.labels_update, events.data


def _facts(canvas: Canvas) -> dict[str, Any]:
    """Return what the layer says of itself; it can be added to."""
    facts: dict[str, Any] = canvas.labels.metadata[METADATA_KEY]
    return facts


def _key(canvas: Canvas) -> str:
    return f"{canvas.key}-{canvas.kind}"


def version_of(session: Session | None, path: Path) -> int | None:
    """Return which version of a session a model file is, None if none.

    Parameters
    ----------
    session : Session or None
    path : Path
    """
    if session is None:
        return None
    try:
        versions = session.versions
    except UNetStudioError:
        return None
    for version in versions:
        if session.path(version.number) == path:
            return version.number
    return None
