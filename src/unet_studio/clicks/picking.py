"""Objects that are there already: of an ordinary model's result, or of a label image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.axes import rearrange
from unet_studio.clicks.commit import piece_at
from unet_studio.clicks.objects import Place
from unet_studio.clicks.prompts import Patch, Point, patch_of, pixel_of

if TYPE_CHECKING:
    from unet_studio.clicks.canvas import Canvas


@dataclass(frozen=True, eq=False)
class Taken:
    """An object as it was found.

    Attributes
    ----------
    id : int
    planes : dict of place to Patch of bool
    """

    id: int
    planes: dict[Place, Patch]


def labels_of(source: Any, canvas: Canvas) -> tuple[Any, str]:
    """Return labels in the canvas' axes, and the name of the model that they are of.

    Parameters
    ----------
    source : Prediction, Segmentation, or array of int
        A prediction is made into objects by its model's own method.
    canvas : Canvas
    """
    from unet_studio.inference.prediction import Prediction

    if isinstance(source, Prediction):
        from unet_studio.objects.run import run_objects

        found = run_objects(source)
        labels = rearrange(found.labels, found.axes.names, canvas.axes)
        return labels, source.card.name
    prediction = getattr(source, "prediction", None)
    if prediction is not None:  # a Segmentation, of the room above
        return rearrange(source.labels, source.axes.names, canvas.axes), prediction.card.name
    return source, ""


def object_at(labels: Any, canvas: Canvas, place: Place, point: Point) -> Taken | None:
    """Return the object at a point, with its neighbouring slices; None on background.

    Frames of a movie are not followed: an id may be another object there.

    Parameters
    ----------
    labels : array of int, axes of the canvas
    canvas : Canvas
    place : tuple of int
    point : (float, float)
        Y, X on the plane.
    """
    y, x = pixel_of(point)
    at = {**canvas.named(place), "Y": y, "X": x}
    fixed = [i for i, axis in enumerate(canvas.axes) if axis == "T"]
    piece = piece_at(labels, [at[a] for a in canvas.axes], fixed)
    if piece is None:
        return None
    order = canvas.plane_axes + "YX"
    mask = rearrange(piece.mask, canvas.axes, order)
    start = [piece.start[canvas.axes.index(a)] for a in order]
    planes: dict[Place, Patch] = {}
    for index in np.ndindex(mask.shape[:-2]):
        if mask[index].any():
            there = tuple(int(s + i) for s, i in zip(start, index, strict=False))
            planes[there] = patch_of(mask[index], start[-2], start[-1])
    return Taken(piece.id, planes)
