"""Labels that lie in a file for each block, and are painted wherever they are read."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.objects.block_task import Runs, find_runs
from unet_studio.objects.grid import Grid, Region, within

_NUMBERS = "numbers.npy"
_PATCHES = "patches"
_LOADED = 32  # files of blocks that are kept in memory


class Recorder:
    """Stands for an empty label array of a shape, and keeps what is written to it."""

    dtype = np.dtype(np.uint32)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.kept: list[tuple[Region, Runs]] = []

    def __getitem__(self, region: Region) -> NDArray[np.uint32]:
        return np.zeros([r.stop - r.start for r in region], self.dtype)

    def __setitem__(self, region: Region, labels: NDArray[Any]) -> None:
        self.kept.append((region, find_runs(labels)))


def block_file(folder: Path, number: int) -> Path:
    """Return where the objects at home in a block are."""
    return folder / f"{number}.npz"


def save_runs(path: Path, ndim: int, kept: Sequence[tuple[Region, Runs]]) -> None:
    """Write stretches of labels, whole or not at all."""
    none = np.zeros(0, np.int64)
    corners = [[(r.start, r.stop) for r in region] for region, _ in kept]
    partial_path = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
    try:
        with partial_path.open("xb") as stream:
            np.savez(
                stream,
                regions=np.array(corners, np.int64).reshape(-1, ndim, 2),
                counts=np.array([len(runs.starts) for _, runs in kept], np.int64),
                starts=np.concatenate([none, *(runs.starts for _, runs in kept)]),
                # No longer than a block's edge, and ids of one block only.
                lengths=np.concatenate([none, *(r.lengths for _, r in kept)]).astype(np.int32),
                values=np.concatenate([none, *(r.values for _, r in kept)]).astype(np.uint32),
            )
        partial_path.replace(path)
    finally:
        partial_path.unlink(missing_ok=True)


@lru_cache(maxsize=_LOADED)
def _load(path: str) -> list[tuple[Region, Runs]]:
    with np.load(path, allow_pickle=False) as stored:
        ends = np.cumsum(stored["counts"])
        names = ("starts", "lengths", "values")
        starts, lengths, values = (np.split(stored[name], ends[:-1]) for name in names)
        regions = [tuple(slice(int(a), int(b)) for a, b in box) for box in stored["regions"]]
    runs = [Runs(*each) for each in zip(starts, lengths, values, strict=True)]
    return list(zip(regions, runs, strict=False))


@dataclass
class SpreadLabels:
    """The labels of a frame, painted out of the files of its blocks wherever they are read.

    Attributes
    ----------
    folder : Path
    grid : Grid
    objects : bool
        Whether labels are ids, not classes.
    pairs : array of int64, axes (pair, 2)
        A block, and one whose file holds pixels of it; in ascending order.
    bases : array of int64, axes (block,)
        Temporary ids of a block's objects begin after this one.
    patched : set of int
        Blocks that were written as a whole, with temporary ids.
    final : bool
        Whether ids are the final ones.
    """

    folder: Path
    grid: Grid
    objects: bool
    pairs: NDArray[np.int64]
    bases: NDArray[np.int64]
    patched: set[int] = field(default_factory=set)
    final: bool = False

    dtype = np.dtype(np.uint32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the frame."""
        return self.grid.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Of what is read fast."""
        return self.grid.block

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.grid.shape)

    def __getitem__(self, key: Any) -> NDArray[np.uint32]:
        region = tuple(slice(*k.indices(n)[:2]) for k, n in zip(key, self.grid.shape, strict=True))
        out = np.zeros([max(0, r.stop - r.start) for r in region], self.dtype)
        if not out.size:
            return out
        for number, part in self.grid.overlapping(region):
            out[within(part, region)] = self._block(number, part)
        return out

    def __setitem__(self, region: Region, labels: NDArray[Any]) -> None:
        """Write a whole block with temporary ids."""
        number = next(self.grid.overlapping(region))[0]
        self._patches("a")[region] = labels
        self.patched.add(number)

    def _patches(self, mode: str) -> Any:
        import zarr

        path = str(self.folder / _PATCHES)
        if mode == "a" and not self.patched:
            zarr.create_array(
                store=path, shape=self.shape, chunks=self.grid.block, dtype=self.dtype,
                fill_value=0,
            )  # fmt: skip
        return zarr.open_array(path, mode="r+" if mode == "a" else "r")

    def _block(self, number: int, part: Region) -> NDArray[np.uint32]:
        """Paint a part of a block."""
        if number in self.patched:
            stored: NDArray[np.uint32] = np.asarray(self._patches("r")[part])
            return self._numbers()[stored] if self.final and self.objects else stored
        out = np.zeros([r.stop - r.start for r in part], self.dtype)
        low, high = np.searchsorted(self.pairs[:, 0], [number, number + 1])
        bounds = self.grid.bounds(number)
        for home in self.pairs[low:high, 1].tolist():
            for region, runs in _load(str(block_file(self.folder, home))):
                if all(b.start <= r.start < b.stop for b, r in zip(bounds, region, strict=True)):
                    _paint(out, part, region, runs, self._ids(home, runs.values))
        return out

    def _ids(self, home: int, values: NDArray[Any]) -> NDArray[Any]:
        if not self.objects:
            return values
        ids: NDArray[Any] = values + self.bases[home]
        return self._numbers()[ids] if self.final else ids

    def _numbers(self) -> NDArray[np.uint32]:
        """Return the final id of each temporary one."""
        return _numbers(str(self.folder / _NUMBERS))

    def number(self, final: NDArray[np.int64]) -> None:
        """Keep the final ids, axes (temporary id,), for everybody to read."""
        np.save(self.folder / _NUMBERS, final.astype(self.dtype))
        self.final = True


@lru_cache(maxsize=2)
def _numbers(path: str) -> NDArray[np.uint32]:
    table: NDArray[np.uint32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return table


def _paint(out: NDArray[Any], part: Region, region: Region, runs: Runs, ids: NDArray[Any]) -> None:
    """Paint the stretches of a region into an array that holds a part of the frame."""
    shape = [r.stop - r.start for r in region]
    place = np.unravel_index(runs.starts, shape)
    inside = np.ones(len(ids), np.bool_)
    flat = np.zeros(len(ids), np.int64)
    first = place[-1] + region[-1].start
    last = first + runs.lengths
    for axis, (edge, bound) in enumerate(zip(region, part, strict=True)):
        length = bound.stop - bound.start
        if axis == len(shape) - 1:
            first = np.maximum(first, bound.start) - bound.start
            last = np.minimum(last, bound.stop) - bound.start
            inside &= last > first
            flat = flat * length + first
        else:
            at = place[axis] + edge.start - bound.start
            inside &= (at >= 0) & (at < length)
            flat = flat * length + at
    lengths = (last - first)[inside]
    before = np.cumsum(lengths) - lengths
    pixels = np.repeat(flat[inside] - before, lengths) + np.arange(int(lengths.sum()))
    out.reshape(-1)[pixels] = np.repeat(ids[inside], lengths)


@dataclass(frozen=True)
class StackedLabels:
    """Frames of labels as one array, T first, wherever they are read."""

    frames: tuple[Any, ...]

    dtype = np.dtype(np.uint32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return (len(self.frames), *self.frames[0].shape)

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[Any]:
        return np.stack([np.asarray(frame[key[1:]]) for frame in self.frames[key[0]]])
