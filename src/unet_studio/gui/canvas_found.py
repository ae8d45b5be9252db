"""Layers of annotations that are in the window: made by Click, or by a dock that was closed."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.gui.canvas import Canvas, image_key, lie_of
from unet_studio.gui.layers import METADATA_KEY, stacked_volume, unwrap
from unet_studio.training.annotations import BACKGROUND, Annotations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Shapes
    from napari.viewer import Viewer

    from unet_studio.gui.input_form import InputChoice

# Of a corrected copy it is not known any more what it was before it was corrected.
_KINDS = ("classes", "objects")


def found_canvases(viewer: Viewer, choice: InputChoice, known: Sequence[Any]) -> Iterator[Canvas]:
    """Find the layers in which an image is annotated, the topmost of each kind.

    Parameters
    ----------
    viewer : napari viewer
    choice : InputChoice
        The image.
    known : sequence of layers
        That are not looked for.

    Raises
    ------
    UNetStudioError
        If there is such a layer, and the image can not be read.
    """
    from napari.layers import Labels

    kinds = set(_KINDS)
    for layer in reversed([unwrap(layer) for layer in viewer.layers]):
        kind = _record(layer).get("kind")
        if (
            not isinstance(layer, Labels) or layer.multiscale or kind not in kinds
            or any(layer is other for other in known)
            or not _may_be_of(viewer, layer, choice)
        ):  # fmt: skip
            continue
        image = unwrap(choice.layer)
        volume = stacked_volume(image, choice.further, choice.axes, choice.level)
        axes, shape, placement = lie_of(choice, volume)
        lying = placement.arrange(np.broadcast_to(np.uint8(0), shape)).shape
        key = image_key(volume)
        if tuple(layer.data.shape) == lying and _is_of(layer, choice, key):
            kinds.remove(kind)
            yield Canvas(choice, layer, kind, placement, axes, key, weakref.ref(image))


def found_rectangles(viewer: Viewer, canvas: Canvas) -> Shapes | None:
    """Return the layer of complete regions that a layer of annotations had, if it is there."""
    from napari.layers import Shapes

    for layer in reversed([unwrap(layer) for layer in viewer.layers]):
        facts = _record(layer)
        if (
            isinstance(layer, Shapes)
            and facts.get("complete_regions_of") == canvas.key
            and facts.get("kind") == canvas.kind
            and layer.ndim == canvas.labels.ndim
            and _may_be_of(viewer, layer, canvas.choice)
        ):
            return layer
    return None


def lacking(canvas: Canvas, kept: Annotations) -> Annotations:
    """Return what was kept in an earlier session and is not in a layer that was found.

    Where both know a pixel, the layer counts. An object that was kept comes back as one:
    not at all if it meets another one, otherwise under a number that is free.

    Parameters
    ----------
    canvas : Canvas
    kept : Annotations
        Of the same image.
    """
    array, values = canvas.array(), kept.values
    there = array[tuple(kept.places[:, kept.axes.index(a)] for a in canvas.axes)]
    free = there == 0
    if canvas.kind == "objects":
        met = np.unique(values[there > BACKGROUND])
        free &= (values == BACKGROUND) | ~np.isin(values, met)
        above = max(int(array.max()), BACKGROUND) - BACKGROUND
        values = np.where(values > BACKGROUND, values + above, values)
    return kept.with_pixels(kept.places[free], values[free])


def _record(layer: Any) -> dict[str, Any]:
    record = layer.metadata.get(METADATA_KEY)
    return record if isinstance(record, dict) else {}


def _may_be_of(viewer: Viewer, layer: Any, choice: InputChoice) -> bool:
    """Whether the image that a layer lies on is the chosen one, or is not in the window."""
    image, facts = unwrap(choice.layer), _record(layer)
    known = facts.get("image", "")
    if known == str(image.unique_id):
        return True
    return all(str(other.unique_id) != known for other in viewer.layers)


def _is_of(layer: Any, choice: InputChoice, key: str) -> bool:
    facts = _record(layer)
    if facts.get("image") == str(unwrap(choice.layer).unique_id):
        return True
    return bool(facts.get("annotations_of") == key)
