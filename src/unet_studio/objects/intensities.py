"""Intensities of each object, in each channel of its image, a block at a time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.images.blocks import whole_chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from unet_studio.axes import Axes
    from unet_studio.images.volume import Volume

Region = dict[str, slice]
# So many pixels are looked at in one go.
_BLOCK = 4_000_000


def add_intensities(
    table: Mapping[str, NDArray[Any]],
    labels: Any,
    axes: Axes,
    volume: Volume,
    *,
    check: Callable[[], None] | None = None,
) -> dict[str, NDArray[Any]]:
    """Return a table of measurements with the intensities of each object in it.

    Parameters
    ----------
    table : mapping of str to array
        As :func:`~unet_studio.objects.measurements.measure` returns it of ``labels``:
        a row for each object (and frame).
    labels : numpy or Zarr array of int
        Axes as in ``axes``; 0 is background.
    axes : Axes
        In any order, without C.
    volume : Volume
        The image of these labels, in its own unit of intensity. Read a block at a time.
    check : callable, optional
        Called before each block; may raise to stop.

    Returns
    -------
    dict of str to array
        The columns of ``table``, then ``intensity_mean``, ``intensity_std`` (of all pixels
        of the object, not of a sample of them), ``intensity_min`` and ``intensity_max``. With
        several channels there are four columns for each, which end in its number, counted
        from 0: ``intensity_mean_0``.

    Notes
    -----
    Means and variances of blocks are joined by the update of T. F. Chan, G. H. Golub and
    R. J. LeVeque, "Algorithms for computing the sample variance" (The American Statistician
    37, 1983, equation 2.1), which does not lose digits where the mean is large.
    """

    def look(region: Region) -> PartSums | None:
        if check is not None:
            check()
        return sum_region(labels, axes, volume, region)

    return join_intensities(table, volume.info.channels, map(look, regions_of(labels, axes)))


def join_intensities(
    table: Mapping[str, NDArray[Any]], channels: int, parts: Iterable[PartSums | None]
) -> dict[str, NDArray[Any]]:
    """Put together what was summed of the regions of an image.

    Parameters
    ----------
    table : mapping of str to array
        As for :func:`add_intensities`.
    channels : int
        Of the image.
    parts : iterable of PartSums or None
        As :func:`sum_region` returns them, in the order of :func:`regions_of`.

    Returns
    -------
    dict of str to array
        As :func:`add_intensities` returns it.
    """
    sums = _Sums.empty(len(table["label"]), channels)
    known: tuple[int | None, NDArray[np.int64], NDArray[np.int64]] | None = None
    for part in parts:
        if part is None:
            continue
        if known is None or known[0] != part.frame:  # regions come frame by frame
            known = part.frame, *_rows_of(table, part.frame)
        _, ids, rows = known
        sums.add(rows[np.searchsorted(ids, part.ids)], part)
    return {**table, **sums.columns()}


@dataclass(frozen=True)
class PartSums:
    """What one region says of the objects in it.

    Attributes
    ----------
    frame : int or None
    ids, count : array of int64, axes (object,)
    mean, squares, low, high : array of float64, axes (channel, object)
        ``squares`` are those of the deviations from ``mean``, added up.
    """

    frame: int | None
    ids: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def sum_region(labels: Any, axes: Axes, volume: Volume, region: Region) -> PartSums | None:
    """Sum up the intensities of the objects in a region; None if there is none.

    Parameters
    ----------
    labels, axes, volume
        As for :func:`add_intensities`.
    region : dict of str to slice
        One of :func:`regions_of`.
    """
    part = np.asarray(labels[tuple(region[a] for a in axes.names)])
    if not part.any():
        return None
    wanted: dict[str, slice | int] = dict(region)
    frame = None
    if "T" in axes.names:
        frame = int(region["T"].start)
        wanted["T"] = frame
    part = np.transpose(part, [axes.names.index(a) for a in axes.canonical.names])
    part = part[0] if frame is not None else part
    return _sums_of(frame, part, volume.read(wanted))


def _sums_of(frame: int | None, labels: NDArray[Any], image: NDArray[Any]) -> PartSums:
    """Sum up a block: labels ([Z,] Y, X), image (C, [Z,] Y, X)."""
    inside = labels != 0
    found = labels[inside].astype(np.int64)
    order = np.argsort(found, kind="stable")
    found = found[order]
    starts = np.flatnonzero(np.diff(found, prepend=-1))
    count = np.diff(starts, append=len(found))
    made: list[list[NDArray[np.float64]]] = [[], [], [], []]
    for plane in image:
        values = plane[inside][order].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):  # images may hold NaN
            mean = np.add.reduceat(values, starts) / count
            off = (values - np.repeat(mean, count)) ** 2
            made[0].append(mean)
            made[1].append(np.add.reduceat(off, starts))
            made[2].append(np.minimum.reduceat(values, starts))
            made[3].append(np.maximum.reduceat(values, starts))
    return PartSums(frame, found[starts], count, *map(np.array, made))


def regions_of(labels: Any, axes: Axes) -> Iterator[Region]:
    """Cut labels into blocks of one frame each, in the order of the frames."""
    names = axes.names
    shape = tuple(int(n) for n in labels.shape)
    chunks = tuple(getattr(labels, "chunks", None) or (1,) * len(shape))
    chunks = tuple(1 if a == "T" else c for a, c in zip(names, chunks, strict=True))
    block = whole_chunks(shape, chunks, _BLOCK, fixed=[names.find("T")])
    grid = [range(0, n, b) for n, b in zip(shape, block, strict=True)]
    for start in itertools.product(*grid):
        bounds = zip(start, block, shape, strict=True)
        yield {a: slice(s, min(s + b, n)) for a, (s, b, n) in zip(names, bounds, strict=True)}


def _rows_of(
    table: Mapping[str, NDArray[Any]], frame: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ids of a frame's rows, ascending, and where these rows are."""
    ids = np.asarray(table["label"], np.int64)
    rows = np.arange(len(ids)) if frame is None else np.flatnonzero(table["frame"] == frame)
    order = np.argsort(ids[rows], kind="stable")
    return ids[rows][order], rows[order]


@dataclass
class _Sums:
    """What is known so far of each row and channel, axes (row, channel)."""

    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def empty(cls, rows: int, channels: int) -> _Sums:
        """Return sums of nothing."""
        zeros = np.zeros((rows, channels))
        return cls(
            np.zeros(rows, np.int64), zeros, zeros.copy(),
            np.full_like(zeros, np.inf), np.full_like(zeros, -np.inf),
        )  # fmt: skip

    def add(self, here: NDArray[np.int64], part: PartSums) -> None:
        """Add what was summed of a region; ``here`` are the rows of its objects."""
        known = self.count[here]
        total = known + part.count
        for channel, mean in enumerate(part.mean):
            with np.errstate(invalid="ignore", over="ignore"):  # images may hold NaN
                step = mean - self.mean[here, channel]
                self.squares[here, channel] += (
                    part.squares[channel] + step**2 * known * part.count / total
                )
                self.mean[here, channel] += step * part.count / total
                low, high = part.low[channel], part.high[channel]
                self.low[here, channel] = np.minimum(self.low[here, channel], low)
                self.high[here, channel] = np.maximum(self.high[here, channel], high)
        self.count[here] = total

    def columns(self) -> dict[str, NDArray[np.float64]]:
        """Return the columns of all channels."""
        deviation = np.sqrt(self.squares / np.maximum(self.count, 1)[:, None])
        parts = {"mean": self.mean, "std": deviation, "min": self.low, "max": self.high}
        channels = self.mean.shape[1]
        return {
            f"intensity_{name}" + (f"_{channel}" if channels > 1 else ""): values[:, channel]
            for channel in range(channels)
            for name, values in parts.items()
        }
