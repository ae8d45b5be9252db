"""Layers to paint on: made exactly on an image, and read back as annotations."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unet_studio.axes import rearrange
from unet_studio.clicks.commit import grown, holds
from unet_studio.errors import AnnotationError
from unet_studio.gui.input_form import InputChoice
from unet_studio.gui.layers import METADATA_KEY, level_shapes, stacked_volume, unwrap
from unet_studio.gui.placement import Placement, placement_of
from unet_studio.images.volume import Volume
from unet_studio.training.annotations import Annotations, Box, nothing_on
from unet_studio.training.repainted import Marks, Tiles, repainted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.layers import Image, Labels, Shapes
    from napari.viewer import Viewer
    from numpy.typing import NDArray

Kind = Literal["classes", "objects", "corrections"]
# Background, then the classes: easy to tell apart, also for the colour-blind
# (Okabe & Ito 2008, Color Universal Design).
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#56b4e9",
)  # fmt: skip
BRUSH = 4  # pixels
_KEY_VALUES = 65_536


@dataclass(frozen=True, eq=False)
class Canvas:
    """A layer of annotations and the image it lies on.

    Attributes
    ----------
    choice : InputChoice
        How the image is read.
    labels : napari labels layer
    kind : {"classes", "objects", "corrections"}
        What the numbers in it are.
    placement : Placement
    axes : str
        Of the image without channels, in its own order.
    key : str
        Tells the image from others, the same in another session.
    predicted : array of int or None
        What a corrected copy was before it was corrected.
    """

    choice: InputChoice
    labels: Labels
    kind: Kind
    placement: Placement
    axes: str
    key: str
    image: weakref.ReferenceType[Image]
    predicted: NDArray[Any] | None = None

    @property
    def name(self) -> str:
        """Name of the image."""
        image = self.image()
        return "" if image is None else str(image.name)

    def volume(self) -> Volume:
        """Return the image, not copied.

        Raises
        ------
        UNetStudioError
            If its layer has changed so that it can not be read.
        """
        image = self.image()
        if image is None:
            raise AnnotationError("The image that was painted on is gone. Open it again.")
        choice = self.choice
        return stacked_volume(image, choice.further, choice.axes, choice.level)

    def array(self) -> NDArray[Any]:
        """Return what is painted, axes as :attr:`axes`: the layer's own memory, not a copy."""
        return self.placement.without_channels(np.asarray(self.labels.data))

    @property
    def layer_axes(self) -> str:
        """One letter per dimension of the layer; C for one of length 1."""
        inserted = self.placement.inserted
        if inserted is None:
            return self.axes
        return self.axes[:inserted] + "C" + self.axes[inserted:]

    @property
    def order(self) -> str:
        """Axes of the annotations: [T][Z]YX."""
        return "".join(a for a in "TZYX" if a in self.axes)

    def tiles(self) -> Tiles:
        """Return the tiles of the layer, along :attr:`order`.

        Raises
        ------
        AnnotationError
            If the layer was given an array of other dimensions.
        """
        nothing = self.nothing()
        return Tiles(nothing.shape, nothing.axes)

    def nothing(self, boxes: Sequence[Box] = ()) -> Annotations:
        """Return annotations without a pixel.

        Parameters
        ----------
        boxes : sequence of Box
            Complete regions along the axes of :meth:`array`.
        """
        mode: Any = "objects" if self.kind == "objects" else "classes"
        if self.predicted is not None:
            mode, boxes = self.labels.metadata[METADATA_KEY].get("mode", "objects"), ()
        return nothing_on(self.array().shape, self.axes, mode=mode, complete=boxes)

    def read_again(
        self, known: Annotations, tiles: Tiles, marks: Marks, boxes: Sequence[Box] = ()
    ) -> Annotations:
        """Return what is known by now, where tiles that are not marked are as they were.

        Parameters
        ----------
        known : Annotations
            As they were read before; of another shape, they count not.
        tiles : Tiles
        marks : array of bool
        boxes : sequence of Box
            As for :meth:`nothing`.

        Returns
        -------
        Annotations
            The very object that was passed if nothing has changed.
        """
        nothing = self.nothing(boxes)
        if known.shape != nothing.shape:
            known = nothing
        labels = rearrange(self.array(), self.axes, self.order)
        predicted = None
        if self.predicted is not None:
            predicted = rearrange(self.predicted, self.axes, self.order)
        found = repainted(known, labels, tiles, marks, predicted)
        if found.complete == nothing.complete:
            return found
        return replace(found, complete=nothing.complete)

    def free_number(self, known: Annotations) -> int:
        """Return a label that no object has yet.

        Parameters
        ----------
        known : Annotations
            What is painted.
        """
        highest = int(known.values.max()) if len(known) else 0
        if self.predicted is not None:  # kept as background 1
            highest = max(highest - 1, self._highest_predicted)
        return max(2, highest + 1)

    @cached_property
    def _highest_predicted(self) -> int:
        return 0 if self.predicted is None else int(self.predicted.max(initial=0))


def make_canvas(choice: InputChoice, kind: Kind, result: Labels | None = None) -> Canvas:
    """Make a layer to paint in; it is not added to a viewer.

    Parameters
    ----------
    choice : InputChoice
    kind : {"classes", "objects", "corrections"}
    result : labels layer, optional
        What a copy of is to be corrected.

    Raises
    ------
    UNetStudioError
        If the image can not be read, or the labels do not lie on it.
    """
    from napari.layers import Labels

    image = unwrap(choice.layer)
    volume = stacked_volume(image, choice.further, choice.axes, choice.level)
    own, shape, placement = lie_of(choice, volume)
    predicted = None
    if kind == "corrections":
        predicted = _copy_of(result, shape, placement)
        data = placement.arrange(predicted.copy())
    else:
        dtype = np.uint8 if kind == "classes" else np.int32
        data = placement.arrange(np.zeros(shape, dtype))  # memory is taken where painted
    title = {"classes": "strokes", "objects": "objects", "corrections": "corrections"}[kind]
    key = image_key(volume)
    layer = Labels(
        data,
        name=f"{image.name} · {title}",
        metadata={METADATA_KEY: record_of(image, key, kind)},
        opacity=0.8 if kind != "corrections" else 0.6,
        **placement.keywords(),
    )
    if kind == "classes":
        layer.colormap = _class_colours()
    layer.brush_size = BRUSH
    layer.selected_label = 2
    return Canvas(choice, layer, kind, placement, own, key, weakref.ref(image), predicted)


def lie_of(choice: InputChoice, volume: Volume) -> tuple[str, tuple[int, ...], Placement]:
    """Return axes and shape of an image without channels, and where labels on it lie.

    Parameters
    ----------
    choice : InputChoice
    volume : Volume
        Of the choice.
    """
    image, names = unwrap(choice.layer), volume.axes.names
    own = "".join(a for a in names if a != "C")
    shape = tuple(volume.info.length(a) for a in own)
    factors = np.divide(
        level_shapes(image)[0][: image.ndim], level_shapes(image)[choice.level][: image.ndim]
    )
    layer_names = names[: int(image.ndim)] if not choice.further else own
    channels = volume.info.length("C") if "C" in layer_names else 1
    return own, shape, placement_of(image, layer_names, channels, tuple(factors.tolist()))


def record_of(image: Image, key: str, kind: Kind) -> dict[str, str]:
    """Return what a layer of annotations says of itself, in its metadata.

    The image's layer is known by its id in this window, whatever it is called, and by what
    it shows in another one.
    """
    return {"annotations_of": key, "image": str(image.unique_id), "kind": kind}


def _copy_of(result: Labels | None, shape: tuple[int, ...], placement: Placement) -> NDArray[Any]:
    if result is None:
        raise AnnotationError(
            "There is no prediction of this image to correct. Segment it first, or paint strokes."
        )
    data = np.asarray(result.data)
    if data.ndim == len(shape) + 1:
        data = placement.without_channels(data)
    if data.shape != shape:
        raise AnnotationError(
            f"The labels {result.name!r} have the shape {data.shape}, the image {shape}. Segment "
            "the image again, then correct the result."
        )
    return data.copy()


def _class_colours() -> Any:
    from napari.utils.colormaps import DirectLabelColormap

    colours: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    colours |= {i + 1: COLOURS[i % len(COLOURS)] for i in range(60)}
    return DirectLabelColormap(color_dict=colours)


def image_key(volume: Volume) -> str:
    """Return what tells an image from others: of its shape, type and an even sample of pixels."""
    array = volume.array
    facts = f"{tuple(array.shape)} {array.dtype} {volume.axes.names} {volume.channel_names}"
    digest = hashlib.sha256(facts.encode())
    if isinstance(array, np.ndarray):
        step = max(1, array.size // _KEY_VALUES) | 1
        flat = array.reshape(-1) if array.flags.c_contiguous else array.flat
        digest.update(np.ascontiguousarray(flat[::step]).tobytes())
    else:  # not read for this
        digest.update(volume.name.encode())
    return digest.hexdigest()[:16]


def fill_in(canvas: Canvas, kept: Annotations) -> None:
    """Paint what was kept in an earlier session into a new layer, as one step to undo."""
    values = kept.values
    if canvas.predicted is not None:
        values = values - 1  # kept as background 1; labels of a model begin with background 0
    if len(values) and not holds(canvas.labels.data.dtype, int(values.max())):
        canvas.labels.data = grown(canvas.labels.data, int(values.max()))
    order = [kept.axes.index(a) for a in canvas.axes]
    places = [kept.places[:, i].astype(np.intp) for i in order]
    if canvas.placement.inserted is not None:
        places.insert(canvas.placement.inserted, np.zeros(len(kept), np.intp))
    if len(kept):
        canvas.labels.data_setitem(tuple(places), values.astype(canvas.labels.data.dtype))


def make_rectangles(canvas: Canvas) -> Shapes:
    """Make a layer to draw complete regions in; it is not added to a viewer."""
    from napari.layers import Shapes

    image = canvas.image()
    known = "" if image is None else str(image.unique_id)
    facts = {"complete_regions_of": canvas.key, "image": known, "kind": canvas.kind}
    return Shapes(
        ndim=canvas.labels.ndim,
        name=f"{canvas.name} · complete regions",
        edge_color="#f0e442",
        face_color="transparent",
        edge_width=2,
        metadata={METADATA_KEY: facts},
        **canvas.placement.keywords(),
    )


def boxes_in(shapes: Shapes | None, canvas: Canvas) -> tuple[Box, ...]:
    """Return the rectangles of a layer as boxes along the axes of the canvas.

    Of each, the pixels whose centres lie inside; along axes that are not displayed, the
    plane it was drawn in. What lies outside the image is cut off.
    """
    if shapes is None:
        return ()
    lengths = canvas.labels.data.shape
    boxes = []
    for corners in shapes.data:
        low, high = np.min(corners, axis=0), np.max(corners, axis=0)
        flat = high - low < 1e-6
        start = np.where(flat, np.round(low), np.ceil(low)).clip(0, lengths).astype(int)
        stop = np.where(flat, start + 1, np.floor(high) + 1).clip(0, lengths).astype(int)
        if canvas.placement.inserted is not None:
            start = np.delete(start, canvas.placement.inserted)
            stop = np.delete(stop, canvas.placement.inserted)
        if (start < stop).all():
            boxes.append(Box(tuple(start.tolist()), tuple(stop.tolist())))
    return tuple(boxes)


def show_boxes(shapes: Shapes, canvas: Canvas, boxes: Sequence[Box], axes: str) -> None:
    """Draw boxes that were kept as rectangles in their planes.

    Parameters
    ----------
    boxes : sequence of Box
    axes : str
        Of the boxes.
    """
    order = [axes.index(a) for a in canvas.axes]
    for box in boxes:
        start = np.asarray(box.start, float)[order]
        stop = np.asarray(box.stop, float)[order] - 1
        y, x = canvas.axes.index("Y"), canvas.axes.index("X")
        corners = np.tile(start, (4, 1))
        corners[2:, y] = stop[y]
        corners[1:3, x] = stop[x]
        if canvas.placement.inserted is not None:
            corners = np.insert(corners, canvas.placement.inserted, 0, axis=1)
        shapes.add_rectangles(corners)


def find_result(viewer: Viewer, canvas_image: Image) -> Labels | None:
    """Return the latest labels that a run of ours made of an image, if they are still there."""
    from napari.layers import Labels

    for layer in reversed(list(viewer.layers)):
        layer = unwrap(layer)
        record = layer.metadata.get(METADATA_KEY, {})
        if (
            isinstance(layer, Labels)
            and "annotations_of" not in record
            and record
            and str(layer.name).startswith(f"{canvas_image.name} · ")
        ):
            return layer
    return None
