"""What is being annotated: the layers, the session on the disk, and what joins them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from unet_studio.errors import UNetStudioError
from unet_studio.gui.canvas import (
    Canvas,
    Kind,
    fill_in,
    find_result,
    make_canvas,
    make_rectangles,
    show_boxes,
)
from unet_studio.gui.canvas_found import found_canvases, found_rectangles, lacking
from unet_studio.gui.layers import METADATA_KEY, unwrap
from unet_studio.gui.sheet import Sheet
from unet_studio.training.session import Session, new_session, session_of

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

    from unet_studio.gui.input_form import InputChoice
    from unet_studio.training.annotations import Annotations


class RefineDesk(QObject):
    """Keeps every painted image with its sheet, and the session they belong to."""

    painted = Signal(object)  # Canvas whose annotations are on the disk now
    failed = Signal(str)
    changed = Signal()  # a layer came or went

    def __init__(self, viewer: Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self.session: Session | None = None
        self._sheets: dict[Canvas, Sheet] = {}
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self.changed)
        viewer.layers.events.inserted.connect(self._on_inserted)
        viewer.layers.events.removed.connect(self._on_removed)

    @property
    def canvases(self) -> list[Canvas]:
        """Every painted image, in the order in which they were taken up."""
        return list(self._sheets)

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
            kept = self._bring_back(canvas)
            sheet = self._add(canvas, kept)  # known before it is seen in the window
            told = self._bring_back_regions(sheet, kept)
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
                kept = self._bring_back(canvas, found=True)
                sheet = self._add(canvas, None)
                sheet.set_rectangles(found_rectangles(self._viewer, canvas))
                told = self._bring_back_regions(sheet, kept)
                sheet.touch()
        except UNetStudioError:
            return ""  # nobody asked; whoever paints on the image is told
        return told

    def rectangles(self, canvas: Canvas) -> Shapes:
        """Return the layer of complete regions, made if there is none, ready to draw in."""
        sheet = self._sheets[canvas]
        shapes = sheet.rectangles
        if shapes is None:
            shapes = self._add_rectangles(sheet)
        self._viewer.layers.selection.active = shapes
        shapes.mode = "add_rectangle"
        return shapes

    def read(self, canvas: Canvas) -> Annotations:
        """Return what is known of an image by now; nothing of one that is not kept here.

        Raises
        ------
        UNetStudioError
        """
        sheet = self._sheets.get(canvas)
        return canvas.nothing() if sheet is None else sheet.read()

    def read_all(self) -> list[tuple[Canvas, Annotations]]:
        """Return what is known of every image, also of pixels that a script has changed.

        Raises
        ------
        UNetStudioError
        """
        return [(canvas, sheet.read_all()) for canvas, sheet in self._sheets.items()]

    def free_number(self, canvas: Canvas) -> int:
        """Return a label that no object of an image has yet.

        Raises
        ------
        UNetStudioError
        """
        return canvas.free_number(self.read(canvas))

    def known(self, canvas: Canvas) -> Annotations | None:
        """Return what was last saved of an image; None if nothing was."""
        sheet = self._sheets.get(canvas)
        return None if sheet is None else sheet.kept

    def saving(self) -> bool:
        """Whether something is not on the disk yet."""
        return any(sheet.busy for sheet in self._sheets.values())

    def flush(self) -> None:
        """Save what is not saved."""
        for sheet in self._sheets.values():
            sheet.flush()

    def release(self) -> None:
        """Let go of all layers; they stay in the viewer."""
        self.flush()
        self._soon.stop()
        self._viewer.layers.events.inserted.disconnect(self._on_inserted)
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        for canvas in self.canvases:
            self._forget(canvas)

    # -- sessions ---------------------------------------------------------------

    def begin(self, name: str) -> Session:
        """Begin a new session with all that is painted now.

        Raises
        ------
        UNetStudioError
        """
        self.session = new_session(name)
        for canvas, painted in self.read_all():
            self._save(canvas, painted)
        return self.session

    def _bring_back(self, canvas: Canvas, found: bool = False) -> Annotations | None:
        """Join the session that an image is of; paint, and return, what was kept of it.

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
                return None
            self.session = earlier
        number = self.session.image_number(key, canvas.name)
        if found and _facts(canvas).get("session") == self.session.folder.name:
            return None  # what was kept was of this layer, and it may have been changed since
        kept = self.session.strokes(number)
        if kept is None or not (len(kept) or kept.complete):
            return None
        if kept.shape != canvas.nothing().shape:
            return None
        kept = lacking(canvas, kept) if found else kept
        fill_in(canvas, kept)
        return kept

    def _bring_back_regions(self, sheet: Sheet, kept: Annotations | None) -> str:
        """Draw the complete regions that were kept; return what to tell."""
        if kept is None:
            return ""
        if kept.complete and sheet.rectangles is None:
            shapes = self._add_rectangles(sheet)
            show_boxes(shapes, sheet.canvas, kept.complete, kept.axes)
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

    def _add(self, canvas: Canvas, kept: Annotations | None) -> Sheet:
        save = partial(self._save, canvas)
        self._sheets[canvas] = sheet = Sheet(self._viewer, canvas, save, kept, self)
        sheet.saved.connect(partial(self.painted.emit, canvas))
        sheet.failed.connect(self.failed)
        self.changed.emit()
        return sheet

    def _add_rectangles(self, sheet: Sheet) -> Shapes:
        shapes = make_rectangles(sheet.canvas)
        self._viewer.add_layer(shapes)
        sheet.set_rectangles(shapes)
        return shapes

    def _on_inserted(self, event: Any) -> None:
        record = unwrap(event.value).metadata.get(METADATA_KEY)
        if isinstance(record, dict) and "annotations_of" in record:
            self._soon.start()  # when napari shows the layer, too

    def _on_removed(self, event: Any) -> None:
        gone = unwrap(event.value)
        for canvas, sheet in list(self._sheets.items()):
            if canvas.labels is gone:
                self._forget(canvas)
                self.changed.emit()
            elif sheet.rectangles is gone:
                sheet.set_rectangles(None)
                sheet.touch()

    def _forget(self, canvas: Canvas) -> None:
        sheet = self._sheets.pop(canvas)
        sheet.release()
        sheet.deleteLater()


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
