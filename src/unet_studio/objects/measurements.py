"""Size and position of each object, in physical units."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from unet_studio.errors import AxesError
from unet_studio.images.atomic import atomic_file
from unet_studio.objects.contingency import compact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from unet_studio.axes import Axes
    from unet_studio.images.blocks import Each

# So many pixels are looked at in one go: the coordinates of a large stack
# would take several times its own memory.
_SLAB = 4_000_000


@dataclass(frozen=True)
class Counted:
    """Sizes and positions of the objects of one frame, by id.

    Attributes
    ----------
    ids, pixels : array of int64, axes (object,)
    centroids : array of float64, axes (object, axis)
        In pixels: 0 is the centre of the first one.
    boxes : array of int64, axes (object, axis, 2)
        First pixel, and the one after the last.
    """

    ids: NDArray[np.int64]
    pixels: NDArray[np.int64]
    centroids: NDArray[np.float64]
    boxes: NDArray[np.int64]

    def renumbered(self, ids: NDArray[np.int64]) -> Counted:
        """Return the same objects under other ids, in the order of these."""
        order = np.argsort(ids)
        return Counted(ids[order], self.pixels[order], self.centroids[order], self.boxes[order])

    def table(self, axes: Axes) -> dict[str, NDArray[Any]]:
        """Return the columns of :func:`measure`; ``axes`` are the spatial ones."""
        return object_table(self.ids, self.pixels, self.centroids, self.boxes, axes)


def measure(
    labels: NDArray[Any],
    axes: Axes,
    *,
    counted: Sequence[Counted | None] = (),
    check: Callable[[], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """Measure every object.

    Parameters
    ----------
    labels : array of int, axes as in ``axes``
        0 is background. Ids may have gaps. An id that is there in several
        frames is measured in each.
    axes : Axes
        Of ``labels``, in any order, without C.
    counted : sequence of Counted or None, optional
        What is known of each frame already; the labels of such a frame are not looked at.
    check : callable, optional
        Called before each frame; may raise to stop.

    Returns
    -------
    dict of str to array
        One row per object (and frame), by frame, then by label:

        - ``label``, and with a time axis ``frame``, counted from 0
        - ``pixels``: number of pixels or voxels
        - ``area`` (2D) or ``volume`` (3D)
        - ``equivalent_diameter``: of the disc or ball of that size
        - ``centroid_z``, ``centroid_y``, ``centroid_x``: world coordinates,
          ``scale * index + translate``, the centre of the first pixel being
          at ``translate``
        - ``bbox_min_z``, … ``bbox_max_x``: first pixel, and the one after the last

        :func:`units` tells in which unit each is. Rotation and shear of a
        layer are not applied.

    Raises
    ------
    AxesError
        If the axes do not fit the array, or there is a channel axis.
    """
    if "C" in axes or labels.ndim != len(axes):
        raise AxesError(
            f"Labels of shape {labels.shape} with the axes {axes.names} can not be measured; "
            "there has to be one letter per dimension, and no C (channel)."
        )
    canonical = axes.canonical
    ordered = np.transpose(labels, [axes.index(a) for a in canonical.names])
    spatial = canonical.select(canonical.spatial)
    frames_known = list(counted) or [None] * (len(ordered) if "T" in axes else 1)
    tables = []
    for frame, known in zip(ordered if "T" in axes else [ordered], frames_known, strict=True):
        if check is not None:
            check()
        made = _measure_frame(frame, spatial) if known is None else known.table(spatial)
        tables.append(made)
    if "T" not in axes:
        return tables[0]
    frames = [np.full(len(t["label"]), i, np.int64) for i, t in enumerate(tables)]
    if not tables:
        tables, frames = [_measure_frame(ordered.reshape(0, 0), spatial)], [np.zeros(0, np.int64)]
    joined = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
    return {"label": joined.pop("label"), "frame": np.concatenate(frames), **joined}


def _measure_frame(labels: NDArray[Any], axes: Axes) -> dict[str, NDArray[Any]]:
    ids, dense = compact(labels)
    count = len(ids)
    pixels, sums = _count(dense, count)
    boxes = np.zeros((count, len(axes), 2), np.int64)
    for index, box in enumerate(ndimage.find_objects(dense, max_label=count) if count else []):
        boxes[index] = [(s.start, s.stop) for s in box]
    return object_table(ids, pixels, (sums / pixels).T, boxes, axes)


def object_table(
    ids: NDArray[np.integer],
    pixels: NDArray[np.int64],
    centroids: NDArray[np.float64],
    boxes: NDArray[np.int64],
    axes: Axes,
) -> dict[str, NDArray[Any]]:
    """Return the columns of :func:`measure` for objects that were counted already.

    Parameters
    ----------
    ids, pixels : array of int, axes (object,)
    centroids : array of float64, axes (object, axis)
        In pixels.
    boxes : array of int64, axes (object, axis, 2)
        First pixel, and the one after the last.
    axes : Axes
        The spatial ones, in the order of the above.
    """
    size = pixels * float(np.prod(np.abs(np.array(axes.scale))))
    flat = len(axes) == 2
    diameter = 2 * np.sqrt(size / np.pi) if flat else np.cbrt(6 * size / np.pi)
    table: dict[str, NDArray[Any]] = {
        "label": ids,
        "pixels": pixels,
        "area" if flat else "volume": size,
        "equivalent_diameter": diameter,
    }
    letters = axes.names.lower()
    for index, letter in enumerate(letters):
        table[f"centroid_{letter}"] = (
            centroids[:, index] * axes.scale[index] + axes.translate[index]
        )
    for side, name in enumerate(("min", "max")):
        for index, letter in enumerate(letters):
            table[f"bbox_{name}_{letter}"] = boxes[:, index, side]
    return table


# Of a class in a region: number of pixels, sums of their coordinates, and box (axis, 2).
ClassCount = tuple[int, "NDArray[np.float64]", "NDArray[np.int64]"]


def measure_classes(
    labels: Any,
    regions: Iterable[tuple[slice, ...]],
    axes: Axes,
    *,
    each: Each = map,
) -> dict[str, NDArray[Any]]:
    """Measure labels that are classes, a few of them over a frame of any size.

    Parameters
    ----------
    labels : numpy or Zarr array, axes ([Z,] Y, X)
    regions : iterable of tuple of slice
        Which cover the frame, each small enough for memory.
    axes : Axes
        The spatial ones.
    each : callable
        Looks at the regions: ``map``, or what has others do it.

    Returns
    -------
    dict of str to array
        As :func:`measure` of the frame, one row per class that is there.
    """
    ndim = len(axes)
    found: dict[int, ClassCount] = {}
    for counts in each(partial(count_classes, labels), regions):
        for name, (more, added, box) in counts.items():
            pixels, sums, before = found.get(name, (0, np.zeros(ndim), box))
            box[:, 0] = np.minimum(box[:, 0], before[:, 0])
            box[:, 1] = np.maximum(box[:, 1], before[:, 1])
            found[name] = pixels + more, sums + added, box
    rows = sorted(found)
    count = np.array([found[r][0] for r in rows], np.int64)
    total = np.array([found[r][1] for r in rows]).reshape(-1, ndim)
    boxes = np.array([found[r][2] for r in rows], np.int64).reshape(-1, ndim, 2)
    return object_table(np.array(rows, np.int64), count, total / count[:, None], boxes, axes)


def count_classes(labels: Any, region: tuple[slice, ...]) -> dict[int, ClassCount]:
    """Count the pixels of each class in a region; parameters are those of measure_classes."""
    part = np.asarray(labels[region])
    ndim = part.ndim
    found: dict[int, ClassCount] = {}
    for name in _classes_in(part):
        # How many there are in each plane across each axis says all that is asked.
        mask = part == name
        axes_but = [tuple(a for a in range(ndim) if a != axis) for axis in range(ndim)]
        planes = [np.count_nonzero(mask, axis=others) for others in axes_but]
        firsts = [edge.start for edge in region]
        inside = [np.flatnonzero(n) + first for n, first in zip(planes, firsts, strict=True)]
        box = np.array([(at[0], at[-1] + 1) for at in inside], np.int64)
        sums = [
            float(n @ (np.arange(len(n)) + first)) for n, first in zip(planes, firsts, strict=True)
        ]
        found[name] = int(planes[0].sum()), np.array(sums), box
    return found


def _classes_in(labels: NDArray[Any]) -> list[int]:
    if labels.dtype == np.uint8:  # counted several times faster than sorted
        there = np.flatnonzero(np.bincount(labels.ravel(), minlength=1))
    else:
        there = np.unique(labels)
    return [int(name) for name in there if name > 0]


def _count(labels: NDArray[Any], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the pixels of labels 1..count and add up their coordinates, axes (axis, label)."""
    pixels = np.zeros(count, np.int64)
    sums = np.zeros((labels.ndim, count))
    if not count:
        return pixels, sums
    planes = max(1, _SLAB * len(labels) // labels.size)
    for start in range(0, len(labels), planes):
        slab = labels[start : start + planes]
        where = np.nonzero(slab)
        ids = slab[where].astype(np.intp) - 1
        pixels += np.bincount(ids, minlength=count)
        for axis, position in enumerate(where):
            sums[axis] += np.bincount(ids, position + start * (axis == 0), minlength=count)
    return pixels, sums


def summarise(
    table: Mapping[str, NDArray[Any]], tracks: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return one row for each linked object, over all of its frames.

    Parameters
    ----------
    table : mapping of str to array
        As :func:`measure` returns it of a movie; may be empty.
    tracks : mapping of str to array
        Columns of :class:`~unet_studio.objects.linking.Tracks`, rows by label.

    Returns
    -------
    dict of str to array
        The columns of ``tracks``, then ``mean_pixels``, ``mean_area`` or
        ``mean_volume``, and ``mean_equivalent_diameter``, in the units that
        :func:`units` tells of the columns they are means of.
    """
    summary = dict(tracks)
    if not table:
        return summary
    rows = np.searchsorted(tracks["label"], table["label"])
    count = len(tracks["label"])
    for name in ("pixels", "area", "volume", "equivalent_diameter"):
        if name in table:
            total = np.bincount(rows, table[name], minlength=count)
            summary[f"mean_{name}"] = total / np.maximum(np.bincount(rows, minlength=count), 1)
    return summary


def units(axes: Axes) -> dict[str, str]:
    """Return the unit of each column of :func:`measure` that has one.

    Parameters
    ----------
    axes : Axes
        The same as for :func:`measure`.

    Returns
    -------
    dict of str to str
        For example ``{"area": "micrometer^2", "centroid_y": "micrometer", …}``.
        Axes of different units give products such as ``"millimeter*pixel"``;
        the equivalent diameter has no unit then, and is left out.
    """
    spatial = axes.select(axes.spatial)
    different = list(dict.fromkeys(spatial.units))
    powers = {unit: spatial.units.count(unit) for unit in different}
    product = "*".join(f"{u}^{n}" if n > 1 else u for u, n in powers.items())
    named = {"area" if len(spatial) == 2 else "volume": product}
    if len(different) == 1:
        named["equivalent_diameter"] = different[0]
    for name, unit in zip(spatial.names, spatial.units, strict=True):
        named[f"centroid_{name.lower()}"] = unit
    return named


def write_table(
    path: Path, table: Mapping[str, NDArray[Any]], units: Mapping[str, str] | None = None
) -> None:
    """Write measurements as CSV (UTF-8, comma, decimal point), whole or not at all.

    Parameters
    ----------
    path : Path
        Replaced if it exists.
    table : mapping of str to array
        Columns of equal length.
    units : mapping of str to str, optional
        Put behind the column's name in the header: ``area [micrometer^2]``.

    Raises
    ------
    OutputError
        If the folder or the disk does not take it.
    """
    named = units or {}
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([f"{n} [{named[n]}]" if n in named else n for n in table])
    rows.writerows(zip(*(column.tolist() for column in table.values()), strict=True))
    with atomic_file(path) as file:
        file.write(text.getvalue().encode())
