"""One layer that is painted on: what is known of it by now, and its way to the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Signal

from unet_studio.gui.canvas import Canvas, boxes_in
from unet_studio.gui.stroke_keeper import StrokeKeeper
from unet_studio.gui.stroke_watch import StrokeWatch

if TYPE_CHECKING:
    from napari.layers import Shapes
    from napari.viewer import Viewer

    from unet_studio.training.annotations import Annotations


class Sheet(QObject):
    """Follows a canvas and the complete regions drawn on it.

    A stroke costs what it covers: only the tiles that it touches are read again.

    Parameters
    ----------
    viewer : napari viewer
    canvas : Canvas
    write : callable
        Takes annotations to the disk, whole or not at all; called on a thread beside the
        window.
    kept : Annotations or None
        What the layer holds, and is on the disk already.
    parent : QObject
    """

    saved = Signal()  # what has changed is on the disk now
    failed = Signal(str)

    def __init__(
        self, viewer: Viewer, canvas: Canvas, write: Callable[[Annotations], None],
        kept: Annotations | None, parent: QObject,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.canvas, self._write = canvas, write
        self._kept = kept
        self._rectangles: Shapes | None = None
        self._reading = threading.Lock()
        self._known: Annotations = canvas.nothing() if kept is None else kept
        self._on_disk = self._known  # nothing at all needs no file
        self._keeper = StrokeKeeper(self.read, self._save, self)
        self._keeper.saved.connect(self._on_saved)
        self._keeper.failed.connect(self.failed)
        self._watch = StrokeWatch(viewer, canvas, self._keeper.touch)

    @property
    def kept(self) -> Annotations | None:
        """What is on the disk; None if nothing is."""
        return self._kept

    @property
    def busy(self) -> bool:
        """Whether something is not on the disk yet."""
        return self._keeper.busy

    @property
    def rectangles(self) -> Shapes | None:
        """The layer of complete regions, if there is one."""
        return self._rectangles

    def set_rectangles(self, shapes: Shapes | None) -> None:
        """Take complete regions from a layer; None if it is gone."""
        if self._rectangles is not None:
            self._rectangles.events.data.disconnect(self._keeper.touch)
        self._rectangles = shapes
        if shapes is not None:
            shapes.events.data.connect(self._keeper.touch)

    def touch(self) -> None:
        """Save what there is, soon."""
        self._keeper.touch()

    def read(self) -> Annotations:
        """Return what is known by now. On any thread.

        Raises
        ------
        UNetStudioError
        """
        with self._reading:
            tiles, marks = self._watch.take()
            try:
                boxes = boxes_in(self._rectangles, self.canvas)
                self._known = self.canvas.read_again(self._known, tiles, marks, boxes)
            except BaseException:
                self._watch.give_back(marks)
                raise
            return self._known

    def read_all(self) -> Annotations:
        """Return what is known, also of pixels that a script has changed; see :meth:`read`."""
        self._watch.mark_all()
        return self.read()

    def flush(self) -> None:
        """Save now, and return when it is done."""
        self._keeper.flush()

    def release(self) -> None:
        """Save, and stop following the layers."""
        self.flush()
        self._watch.release()
        self.set_rectangles(None)

    def _save(self, annotations: Annotations) -> None:
        if annotations is not self._on_disk:
            self._write(annotations)
            self._on_disk = annotations

    def _on_saved(self, annotations: Annotations) -> None:
        if annotations is not self._kept and annotations is self._on_disk:
            self._kept = annotations
            self.saved.emit()
