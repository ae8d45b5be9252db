"""Moves the view to where painting would teach the model most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.errors import AnnotationError
from unet_studio.gui.canvas import Canvas, make_canvas
from unet_studio.gui.refine_errands import suggesting

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from unet_studio.gui.input_form import InputChoice
    from unet_studio.gui.refine_desk import RefineDesk
    from unet_studio.gui.worker import Steps
    from unet_studio.training.where_next import Suggestion

# A view much wider than this is zoomed in on, in pixels of the image.
_WIDTH = 320


class NextPlace:
    """Remembers what was suggested, so that each press leads somewhere else."""

    def __init__(self, viewer: Viewer, desk: RefineDesk) -> None:
        self._viewer, self._desk = viewer, desk
        self._seen: dict[Canvas | str, list[Suggestion]] = {}
        self._canvas: Canvas | None = None

    def steps(self, model: Path, choice: InputChoice | None) -> Steps:
        """Return the work of finding a place on the chosen image.

        Raises
        ------
        UNetStudioError
        """
        if choice is None:
            raise AnnotationError("Open an image first.")
        kinds = ("classes", "objects", "corrections")
        found = [c for kind in kinds if (c := self._desk.find(choice, kind)) is not None]
        # Without a layer to paint in, one that nobody sees gives its place in the world.
        self._canvas = found[0] if found else make_canvas(choice, "classes")
        pairs = [(self._canvas.volume(), self._desk.read(self._canvas))]
        seen = self._seen.setdefault(self._canvas.key, [])
        return suggesting(model, pairs, seen, choice.channels)

    def go(self, suggestion: Suggestion | None) -> str:
        """Move the view there; return what to tell."""
        canvas = self._canvas
        if suggestion is None or canvas is None:
            return "Every part that was looked at is painted or was suggested already."
        self._seen[canvas.key].append(suggestion)
        axes = canvas.layer_axes
        place = dict(zip((a for a in "TZYX" if a in axes), suggestion.place, strict=True))
        data = np.array([place.get(a, 0) for a in axes], float)
        world = np.asarray(canvas.labels.data_to_world(data))
        dims, camera = self._viewer.dims, camera_of(self._viewer)
        offset = dims.ndim - len(world)
        for axis, value in enumerate(world):
            if axis + offset not in dims.displayed:
                dims.set_point(axis + offset, float(value))
        shown = [world[a - offset] for a in dims.displayed if a >= offset]
        camera.center = tuple(np.asarray(camera.center, float)[: 3 - len(shown)]) + tuple(shown)
        if wide := _width(canvas):
            camera.zoom *= max(1.0, wide / _WIDTH)
        where = ", ".join(f"{a} {place[a]}" for a in "TZYX" if a in place)
        return f"Least sure here ({where}); paint some of it."


def _width(canvas: Canvas) -> float:
    """Return how many pixels of the image are on the screen along its longer side."""
    corners: Any = np.asarray(canvas.labels.corner_pixels, float)
    return float((corners[1] - corners[0])[-2:].max()) if canvas.labels.ndim >= 2 else 0.0


def camera_of(viewer: Any) -> Any:
    """Return the camera: of the scene since napari 0.9, of the viewer before."""
    scene = getattr(viewer, "scene", None)
    return viewer.camera if scene is None else scene.camera
