"""Objects into a label image and out of it again, inside the box that changes.

Pure functions: an edit says what to write where and what was there before, so that
whoever owns the labels can write it, take it back, and keep a history of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio.clicks.prompts import Patch, PlaneBox
from unet_studio.errors import ClickError

Policy = Literal["keep", "overwrite", "background"]
POLICIES: dict[str, str] = {
    "keep": "Objects that are there keep their pixels.",
    "overwrite": "The new object takes its pixels from others.",
    "background": "Only background is written on; nothing that is there changes.",
}
Region = tuple[slice | int, ...]
_FIRST_GROWTH = 32


@dataclass(frozen=True, eq=False)
class Change:
    """What changes in one box of a label image.

    Attributes
    ----------
    region : tuple of slice or int
        One per axis of the labels; an int is a plane.
    before, after : array of int
        Shape as of ``labels[region]``.
    """

    region: Region
    before: NDArray[Any]
    after: NDArray[Any]

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which pixels of the region change."""
        found: NDArray[np.bool_] = self.before != self.after
        return found

    def indices(self) -> tuple[NDArray[np.int64], ...]:
        """Return the positions of the pixels that change, one array per axis of the labels.

        What ``napari.layers.Labels.data_setitem`` takes, with :meth:`values`.
        """
        return indices_in(self.region, self.changed)

    def values(self) -> NDArray[Any]:
        """Return the new values of the pixels that change, in the order of :meth:`indices`."""
        found: NDArray[Any] = self.after[self.changed]
        return found


def indices_in(region: Region, mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], ...]:
    """Return the positions of the pixels of a mask, one array per axis of the labels.

    Parameters
    ----------
    region : tuple of slice or int
        One per axis of the labels.
    mask : array of bool
        Shape as of ``labels[region]``.
    """
    inside = np.nonzero(mask)
    count, inner = len(inside[0]), iter(inside)
    return tuple(
        next(inner) + part.start if isinstance(part, slice) else np.full(count, part)
        for part in region
    )


@dataclass(frozen=True, eq=False)
class Edit:
    """One thing done to a label image.

    Attributes
    ----------
    what : {"commit", "erase"}
    id : int
        Of the object; 0 where there is none.
    changes : tuple of Change
        In their order, one per plane.
    size : int
        Longer side of the object in a plane, in pixels.
    """

    what: Literal["commit", "erase"]
    id: int
    changes: tuple[Change, ...]
    size: int = 0

    @property
    def pixels(self) -> int:
        """Number of pixels that change."""
        return sum(int(change.changed.sum()) for change in self.changes)


def apply(labels: Any, edit: Edit) -> None:
    """Write an edit into labels, in place.

    Parameters
    ----------
    labels : numpy or zarr array of int
        Its type has to hold the id: see :func:`grown`.
    """
    for change in edit.changes:
        labels[change.region] = change.after.astype(labels.dtype)


def revert(labels: Any, edit: Edit) -> None:
    """Take an edit out of labels again, in place; pixels that others changed since stay."""
    for change in reversed(edit.changes):
        _exchange(labels, change.region, change.after, change.before)


def renew(labels: Any, edit: Edit) -> None:
    """Do an edit again that was taken back; pixels that others changed since stay."""
    for change in edit.changes:
        _exchange(labels, change.region, change.before, change.after)


def _exchange(labels: Any, region: Region, old: NDArray[Any], new: NDArray[Any]) -> None:
    now = np.array(labels[region])
    own = (old != new) & (now == old)
    now[own] = new[own].astype(now.dtype)
    labels[region] = now


def next_id(labels: Any, least: int = 0) -> int:
    """Return the id after the highest one in use, and after ``least``.

    Parameters
    ----------
    labels : numpy, dask or zarr array of int
        Looked at plane by plane.
    """
    highest = least
    if len(labels.shape) > 2:
        for plane in range(labels.shape[0]):
            highest = next_id(labels[plane], highest) - 1
        return highest + 1
    found = np.asarray(labels[:])
    return max(highest, int(found.max()) if found.size else 0, 0) + 1


def holds(dtype: Any, number: int) -> bool:
    """Whether a dtype can hold an id."""
    dtype = np.dtype(dtype)
    return number <= (1 if dtype.kind == "b" else np.iinfo(dtype).max)


def grown(labels: NDArray[Any], number: int) -> NDArray[Any]:
    """Return labels in a type that holds an id: the same array if its own does.

    Parameters
    ----------
    labels : numpy array of int
    number : int

    Raises
    ------
    ClickError
        If the labels are no numpy array: a file is not rewritten in another type.
    """
    if holds(labels.dtype, number):
        return labels
    if not isinstance(labels, np.ndarray):
        raise ClickError(
            f"The labels are stored as {labels.dtype}, which ends before {number}. Save them in a "
            "larger type (uint16, uint32), and open them again."
        )
    signed = labels.dtype.kind == "i"
    types = ("i2", "i4", "i8") if signed else ("u2", "u4", "u8")
    return labels.astype(next(t for t in types if holds(t, number)))


def region_of(axes: str, place: Mapping[str, int], box: PlaneBox) -> Region:
    """Return what to index labels with for a box of a plane.

    Parameters
    ----------
    axes : str
        Of the labels: the image's without C, in its order.
    place : mapping of axis letter to int
        Of the plane.
    box : PlaneBox
    """
    rows, columns = box.slices
    found: dict[str, slice | int] = {"Y": rows, "X": columns, **place}
    return tuple(found[axis] for axis in axes)


def oriented(values: NDArray[Any], axes: str) -> NDArray[Any]:
    """Return values of axes Y X in the order in which ``axes`` names the two; a view."""
    return values if axes.index("Y") < axes.index("X") else values.T


def check_policy(policy: str) -> None:
    """Refuse what is no policy.

    Raises
    ------
    ClickError
    """
    if policy not in get_args(Policy):
        raise ClickError(f"There is no policy {policy!r}. Use one of: {', '.join(POLICIES)}.")


def commit_edit(
    labels: Any,
    axes: str,
    planes: Sequence[tuple[Mapping[str, int], Patch, Patch | None]],
    number: int,
    policy: str = "keep",
    replaces: int = 0,
) -> Edit:
    """Return what writes an object into labels. Nothing is written yet.

    Parameters
    ----------
    labels : numpy, dask or zarr array of int
    axes : str
        Of the labels.
    planes : sequence of (place, mask, mask before)
        The object on each plane, and what it was started from there, if anything.
    number : int
        Its id.
    policy : {"keep", "overwrite", "background"}
        Which pixels it gets where other objects are.
    replaces : int
        Id of the object that it is a correction of: those of its pixels that it was
        started from are given up, but for the policy "background".

    Raises
    ------
    ClickError
        If there is no such policy.
    """
    check_policy(policy)
    changes, size = [], 0
    for place, mask, start in planes:
        size = max(size, mask.box.longer)
        box = mask.box if start is None or not replaces else mask.box.join(start.box)
        if 0 in box.shape:
            continue
        region = region_of(axes, place, box)
        before = np.array(labels[region])
        inside = oriented(mask.within(box), axes)
        after = before.astype(np.result_type(before.dtype, np.min_scalar_type(number)))
        if start is not None and replaces and policy != "background":
            after[oriented(start.within(box), axes).astype(bool) & (before == replaces)] = 0
        if policy != "overwrite":
            inside = inside & (after == 0)
        after[inside] = number
        changes.append(Change(region, before, after))
    return Edit("commit", number, tuple(c for c in changes if c.changed.any()), size)


@dataclass(frozen=True, eq=False)
class Piece:
    """A connected piece of one object of a label image.

    Attributes
    ----------
    id : int
    start : tuple of int
        First pixel of its box, one per axis of the labels.
    mask : array of bool
        In the box, axes of the labels.
    """

    id: int
    start: tuple[int, ...]
    mask: NDArray[np.bool_]

    @property
    def region(self) -> tuple[slice, ...]:
        """Its box, as what to index the labels with."""
        pairs = zip(self.start, self.mask.shape, strict=True)
        return tuple(slice(s, s + n) for s, n in pairs)


def piece_at(labels: Any, pixel: Sequence[int], fixed: Sequence[int] = ()) -> Piece | None:
    """Return the connected piece of the object at a pixel; None on background.

    Only the surroundings of the piece are read, whatever the size of the labels.

    Parameters
    ----------
    labels : numpy, dask or zarr array of int
    pixel : sequence of int
        One per axis.
    fixed : sequence of int
        Axes along which it is not followed.
    """
    number = int(np.asarray(labels[tuple(pixel)]))
    if number == 0:
        return None
    shape = labels.shape
    start, stop = list(pixel), [p + 1 for p in pixel]
    open_axes = [axis for axis in range(len(shape)) if axis not in fixed]
    step = _FIRST_GROWTH
    low, high = list(start), list(stop)  # which faces still have to move
    faces = [(axis, side) for axis in open_axes for side in (0, 1)]
    while True:
        for axis, side in faces:
            # Planes are fewer than pixels of a plane, and cost as much each.
            move = step if axis >= len(shape) - 2 else max(1, step // _FIRST_GROWTH)
            if side == 0:
                start[axis] = max(0, start[axis] - move)
            else:
                stop[axis] = min(shape[axis], stop[axis] + move)
        block = np.asarray(labels[tuple(map(slice, start, stop))]) == number
        pieces, _ = ndimage.label(block)
        own = pieces == pieces[tuple(p - s for p, s in zip(pixel, start, strict=True))]
        extent = ndimage.find_objects(own.astype(np.uint8))[0]
        low = [s + e.start for s, e in zip(start, extent, strict=True)]
        high = [s + e.stop for s, e in zip(start, extent, strict=True)]
        faces = [(a, 0) for a in open_axes if low[a] == start[a] > 0]
        faces += [(a, 1) for a in open_axes if high[a] == stop[a] < shape[a]]
        if not faces:
            return Piece(number, tuple(low), own[extent].copy())
        step *= 2


def erase_edit(labels: Any, pixel: Sequence[int]) -> Edit | None:
    """Return what erases the connected piece of an object at a pixel; None on background."""
    piece = piece_at(labels, pixel)
    if piece is None:
        return None
    before = np.array(labels[piece.region])
    after = before.copy()
    after[piece.mask] = 0
    return Edit("erase", piece.id, (Change(piece.region, before, after),))
