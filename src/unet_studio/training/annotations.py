"""What a user painted, as a frozen value: which pixels are known, and what they are.

No torch here: annotations are made, checked and saved while the window is idle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_studio.axes import rearrange
from unet_studio.errors import AnnotationError
from unet_studio.images.volume import Volume
from unet_studio.training.same_grid import check_scale

if TYPE_CHECKING:
    from unet_studio.models.card import ModelCard

Mode = Literal["classes", "objects"]
UNKNOWN, BACKGROUND = 0, 1


@dataclass(frozen=True)
class Box:
    """A rectangle (or cuboid) in which everything was annotated: the rest is background.

    Attributes
    ----------
    start, stop : tuple of int
        First pixel, and first pixel beyond, along each axis of the annotations.
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Annotations:
    """Sparse labels of one image.

    Only the pixels that are known are kept, so that a few strokes on a large image
    stay small, and later painting can not change what a training has begun with.

    Attributes
    ----------
    places : array of int32, axes (pixels, dimensions), read-only
        Positions of the annotated pixels, in C order, each once.
    values : array of int32, axes (pixels,), read-only
        1 is background. In class mode c is class c - 1 of the model; in object mode
        every number above 1 is one object.
    shape : tuple of int
        Of the image without channels, in the order of ``axes``.
    axes : str
        ``[T][Z]YX``.
    mode : {"classes", "objects"}
    complete : tuple of Box
    """

    places: NDArray[np.int32]
    values: NDArray[np.int32]
    shape: tuple[int, ...]
    axes: str
    mode: Mode = "classes"
    complete: tuple[Box, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def block(self, start: Sequence[int], stop: Sequence[int]) -> NDArray[np.int32]:
        """Return a part as dense labels: 0 not known, 1 background, others as painted.

        Parameters
        ----------
        start, stop : sequence of int
            Along each axis; positions outside the image are not known.
        """
        low, high = np.asarray(start), np.asarray(stop)
        block = np.zeros(high - low, np.int32)
        for box in self.complete:
            first = np.maximum(np.asarray(box.start) - low, 0)
            last = np.minimum(np.asarray(box.stop) - low, high - low)
            if (first < last).all():
                block[tuple(map(slice, first, last))] = BACKGROUND
        # Sorted by the first axis: most of a stack is skipped without being looked at.
        rows = slice(*np.searchsorted(self.places[:, 0], [low[0], high[0]]))
        places = self.places[rows]
        inside = ((places >= low) & (places < high)).all(axis=1)
        block[tuple((places[inside] - low).T)] = self.values[rows][inside]
        return block

    def dense(self) -> NDArray[np.int32]:
        """Return labels of the whole image, four bytes for each of its pixels.

        For large images read parts with :meth:`block`, or use ``places`` and ``values``.

        Raises
        ------
        AnnotationError
            If there is not enough memory.
        """
        try:
            return self.block((0,) * len(self.shape), self.shape)
        except MemoryError as error:
            raise AnnotationError(
                f"There is not enough memory for dense annotations of the shape {self.shape}. "
                "Take parts of them with block()."
            ) from error

    def only(self, kept: NDArray[np.bool_], complete: tuple[Box, ...] = ()) -> Annotations:
        """Return a part: some of the pixels, and these boxes."""
        return replace(
            self.with_pixels(self.places[kept], self.values[kept]), complete=tuple(complete)
        )

    def with_pixels(
        self, places: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]
    ) -> Annotations:
        """Return annotations of the same image with other pixels, copied and made read-only.

        Parameters
        ----------
        places : array of int, axes (pixels, dimensions)
            In C order.
        values : array of int, axes (pixels,)
        """
        where, what = np.array(places, np.int32, order="C"), np.array(values, np.int32)
        where.setflags(write=False)
        what.setflags(write=False)
        return replace(self, places=where, values=what)


def annotate(
    labels: NDArray[Any],
    axes: str | None = None,
    *,
    mode: Mode = "classes",
    background: int = BACKGROUND,
    complete: Sequence[Box] = (),
) -> Annotations:
    """Take a painted label array as annotations. It is copied, never kept.

    Parameters
    ----------
    labels : array of int, axes ``[T][Z]YX`` in any order
        0 is not annotated.
    axes : str, optional
        Of ``labels``; needed for three dimensions (Z or T first?).
    mode : {"classes", "objects"}
    background : int
        The number that stands for background in object mode.
    complete : sequence of Box
        Boxes, along the axes of ``labels``, in which what is not painted is background.

    Raises
    ------
    AnnotationError
        If the array holds no labels, or a box lies outside.
    """
    labels = np.asarray(labels)
    axes, order = checked_axes(labels, axes)
    empty = nothing_on(labels.shape, axes, mode=mode, complete=complete)
    labels = rearrange(labels, axes, order)
    places = np.argwhere(labels)
    values = whole_numbers(labels[tuple(places.T)])
    painted = values != UNKNOWN  # another thread may have erased some meanwhile
    places, values = places[painted], values[painted]
    if mode == "objects" and background != BACKGROUND:
        values = np.where(values == background, BACKGROUND, values + 1)
    return empty.with_pixels(places, values)


def nothing_on(
    shape: Sequence[int], axes: str, *, mode: Mode = "classes", complete: Sequence[Box] = ()
) -> Annotations:
    """Return annotations of an image on which nothing is painted, whatever its size.

    Parameters
    ----------
    shape : sequence of int
        Of the image without channels.
    axes : str
        Of ``shape``, and of the boxes.
    mode : {"classes", "objects"}
    complete : sequence of Box

    Raises
    ------
    AnnotationError
        If there is no such mode, or a box lies outside.
    """
    axes, order = _orders(axes, len(shape))
    lengths = tuple(int(shape[axes.index(a)]) for a in order)
    nothing = np.zeros((0, len(order)), np.int32)
    found = take_pixels(nothing, nothing[:, 0], lengths, order, mode)
    boxes = tuple(_ordered_box(box, axes, order, tuple(shape)) for box in complete)
    return replace(found, complete=boxes)


def checked_axes(labels: NDArray[Any], axes: str | None) -> tuple[str, str]:
    """Return the axes of an array of labels, and the order in which annotations have them.

    Raises
    ------
    AnnotationError
        If it holds no labels, or its axes are not known.
    """
    if labels.dtype.kind not in "biu":
        raise AnnotationError(
            f"The annotations hold values of type {labels.dtype}; labels are whole numbers "
            "(0 not annotated, 1 background). Paint in a Labels layer."
        )
    return _orders(axes, labels.ndim)


def _orders(axes: str | None, ndim: int) -> tuple[str, str]:
    axes = axes or {2: "YX"}.get(ndim, "")
    order = "".join(a for a in "TZYX" if a in axes)
    if not len(axes) == len(order) == ndim:
        raise AnnotationError(
            f"The annotations have {ndim} dimensions; say which they are, such as ZYX."
        )
    return axes, order


def whole_numbers(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return labels as int64; refuse what annotations can not hold, before it wraps around.

    Raises
    ------
    AnnotationError
    """
    if len(values) and int(values.min()) < 0:
        raise AnnotationError(
            "The annotations hold negative numbers; labels start at 0. Set them to 0 (not "
            "annotated)."
        )
    if len(values) and int(values.max()) >= np.iinfo(np.int32).max:
        raise AnnotationError("The annotations hold numbers beyond 2147483646; renumber them.")
    return values.astype(np.int64)


def take_pixels(
    places: NDArray[np.integer[Any]],
    values: NDArray[np.integer[Any]],
    shape: tuple[int, ...],
    axes: str,
    mode: Mode,
) -> Annotations:
    """Take single pixels as annotations, whatever the size of their image.

    Parameters
    ----------
    places : array of int, axes (pixels, dimensions)
        In C order, each once.
    values : array of int, axes (pixels,)
        1 is background.
    shape : tuple of int
        Of the image without channels.
    axes : str
        Of ``places`` and ``shape``: ``[T][Z]YX``.
    mode : {"classes", "objects"}

    Raises
    ------
    AnnotationError
        If there is no such mode.
    ValueError
        If a pixel lies outside, or they are not in order.
    """
    if mode not in ("classes", "objects"):
        raise AnnotationError(f"The mode is {mode!r}; it can be 'classes' or 'objects'.")
    # Raises for what lies outside.
    if not (np.diff(np.ravel_multi_index(tuple(np.transpose(places)), shape)) > 0).all():
        raise ValueError("pixels have to be in C order, each once")
    empty = np.zeros((0, len(shape)), np.int32)
    return Annotations(empty, empty[:, 0], shape, axes, mode).with_pixels(places, values)


def _ordered_box(box: Box, axes: str, order: str, shape: tuple[int, ...]) -> Box:
    pairs = list(zip(box.start, box.stop, strict=True))
    inside = len(pairs) == len(shape) and all(
        0 <= start < stop <= n for (start, stop), n in zip(pairs, shape, strict=True)
    )
    if not inside:
        raise AnnotationError(
            f"The complete region {box.start} to {box.stop} does not lie within the image of "
            f"shape {shape}. Draw it inside the image."
        )
    places = [axes.index(a) for a in order]
    return Box(tuple(box.start[i] for i in places), tuple(box.stop[i] for i in places))


def annotations_on(
    volume: Volume, labels: Any, *, mode: Mode = "classes", complete: Sequence[Box] = ()
) -> Annotations:
    """Bring annotations and their image together.

    Parameters
    ----------
    volume : Volume
    labels : Annotations, Volume or array of int
        An array has the axes of the image without channels, in its order.
    mode : {"classes", "objects"}
    complete : sequence of Box
        Along the axes of the labels.

    Raises
    ------
    AnnotationError
        If shapes or pixel sizes differ: strokes would land elsewhere.
    """
    own = "".join(a for a in volume.axes.names if a != "C")
    order = "".join(a for a in "TZYX" if a in own)
    shape = tuple(volume.info.length(a) for a in order)
    if isinstance(labels, Annotations):
        found = labels
    elif isinstance(labels, Volume):
        check_scale(volume, labels)
        names = "".join(a for a in labels.axes.names if a != "C")
        block = labels.read()  # [T] C [Z] Y X
        block = block[:, 0] if "T" in labels.axes else block[0]
        canonical = "".join(a for a in "TZYX" if a in names)
        found = annotate(block, canonical, mode=mode, complete=complete)
    else:
        array = np.asarray(labels)
        if array.ndim != len(own):
            raise _other_shape(volume, array.shape, shape)
        found = annotate(array, own, mode=mode, complete=complete)
    if found.shape != shape or found.axes != order:
        raise _other_shape(volume, found.shape, shape)
    return found


def _other_shape(volume: Volume, found: Sequence[int], shape: tuple[int, ...]) -> AnnotationError:
    return AnnotationError(
        f"The annotations have the shape {tuple(found)}, but the image {volume.name!r} has "
        f"{shape} (without channels). Paint on a layer made for this image."
    )


def check_annotations(every: Sequence[Annotations], card: ModelCard) -> None:
    """Refuse annotations that a model can not learn from, before any work is done.

    Parameters
    ----------
    every : sequence of Annotations
        Of all images together.
    card : ModelCard

    Raises
    ------
    AnnotationError
        If nothing or one class only is annotated, or a class that the model lacks.
    """
    if not any(len(a) or a.complete for a in every):
        raise AnnotationError(
            "Nothing is annotated. Paint some background (1) and some of what is to be found (2 "
            "and up)."
        )
    found: set[int] = set()
    for one in every:
        values = {int(v) for v in np.unique(one.values)}
        if one.complete:
            values.add(BACKGROUND)
        if one.mode == "objects":
            if card.representation == "classes" and len(card.classes) > 2:
                raise AnnotationError(
                    f"The model {card.name!r} tells {len(card.classes)} classes apart; annotate "
                    "classes, not objects."
                )
            values = {min(v, 2) for v in values}
        found |= values
    names = class_names(card)
    if max(found) > len(names):
        listed = ", ".join(f"{i} {name}" for i, name in enumerate(names, 1))
        raise AnnotationError(
            f"The annotations hold the number {max(found)}, but the model {card.name!r} knows: "
            f"{listed}. Repaint it, name the classes of a new model, or annotate objects."
        )
    if len(found) < 2:
        only = names[found.pop() - 1]
        raise AnnotationError(
            f"Only one class is annotated ({only}); a model learns from the difference. Paint "
            "some of another class, too."
        )


def class_names(card: ModelCard) -> tuple[str, ...]:
    """Return the names of the numbers 1, 2, … in class mode."""
    return card.classes if card.representation == "classes" else ("background", card.classes[0])
