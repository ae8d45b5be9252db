"""Tiles of a prediction that lie on the disk one by one, and are read as one array."""

from __future__ import annotations

import itertools
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_studio.errors import ImageError, storage_errors
from unet_studio.inference.predictor import outer_axes, output_shape, region_of
from unet_studio.inference.tiling import Tile
from unet_studio.inference.writing import SCRATCH_CHUNK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from unet_studio.inference.plan import RunPlan

_OPEN = 256  # tiles whose headers are kept


def write_tile(place: Path, value: NDArray[Any]) -> None:
    """Write a tile (C, [Z,] Y, X) as a Zarr array that is there whole or not at all.

    Zarr would make a folder anew that was removed because the image was cancelled. Here it
    packs the tile in memory, and the folder of ``place`` has to exist.

    Raises
    ------
    OSError
        If it does not, or the disk does not take it.
    """
    import zarr
    from zarr.codecs import BloscCodec
    from zarr.storage import MemoryStore

    files: dict[str, Any] = {}
    partial = place.with_name(f"{place.name}-{uuid.uuid4().hex}")
    inner = SCRATCH_CHUNK[value.ndim - 1]
    chunks = (len(value), *(min(n, c) for n, c in zip(value.shape[1:], inner, strict=True)))
    stored = zarr.create_array(
        store=MemoryStore(files), shape=value.shape, chunks=chunks, dtype=value.dtype,
        compressors=BloscCodec(cname="lz4", clevel=3, shuffle="shuffle"), fill_value=0,
    )  # fmt: skip
    stored[...] = value
    try:
        partial.mkdir()
        for key, content in files.items():
            _write_file(partial, key, content.to_bytes())
        partial.rename(place)
    except OSError:
        if not place.is_dir():  # else somebody was first, with the same
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_file(folder: Path, key: str, content: bytes) -> None:
    """Write a file of a Zarr array; only folders inside of ``folder`` are made."""
    *parents, name = key.split("/")
    for parent in parents:
        folder = folder / parent
        folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


@lru_cache(maxsize=_OPEN)
def _opened(path: str) -> Any:
    import zarr

    return zarr.open_array(path, mode="r")


@dataclass(frozen=True)
class Mosaic:
    """Tiles on the disk, read as one array: numpy-like slicing with step 1, and whole numbers.

    Axes are ``[T] C [Z] Y X``, or without C where tiles hold classes.

    Attributes
    ----------
    folder : Path
    plan : RunPlan
    classes : bool
        Whether tiles hold uint8 classes, not float16 probabilities.
    """

    folder: Path
    plan: RunPlan
    classes: bool = False

    @property
    def _names(self) -> str:
        names = self.plan.info.axes.with_channels().names
        return names.replace("C", "") if self.classes else names

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        pairs = zip(
            self.plan.info.axes.with_channels().names, output_shape(self.plan), strict=True
        )
        return tuple(n for a, n in pairs if a in self._names)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return np.dtype(np.uint8 if self.classes else np.float16)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """Parts that are read fast."""
        inner = SCRATCH_CHUNK[self.plan.card.ndim]
        outer = self.ndim - len(inner)
        return tuple(min(n, c) for n, c in zip(self.shape, (1,) * outer + inner, strict=True))

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Read a part.

        Raises
        ------
        ImageError
            If a tile is not there.
        """
        keys = key if isinstance(key, tuple) else (key,)
        keys = keys + (slice(None),) * (self.ndim - len(keys))
        bounds = [
            range(*k.indices(n)) if isinstance(k, slice) else range(k, k + 1)
            for k, n in zip(keys, self.shape, strict=True)
        ]
        part = np.zeros([len(b) for b in bounds], self.dtype)
        for number, frame, tile in self._tiles(bounds):
            self._paste(part, bounds, number, frame, tile)
        return part[tuple(slice(None) if isinstance(k, slice) else 0 for k in keys)]

    def _tiles(self, bounds: list[range]) -> Iterator[tuple[int, dict[str, int], Tile]]:
        """Yield number, position and geometry of the tiles that a part meets."""
        plan, places = self.plan, dict(zip(self._names, bounds, strict=True))
        outer = outer_axes(plan)
        lengths = [plan.info.length(a) for a in outer]
        spatial = self._names[-plan.card.ndim :]
        met = [
            [
                i for i, s in enumerate(spans)
                if s.keep_start < places[a].stop and s.keep_stop > places[a].start
            ]
            for a, spans in zip(spatial, plan.tiles.axes, strict=True)
        ]  # fmt: skip
        counts = [len(spans) for spans in plan.tiles.axes]
        for frame in itertools.product(*(places[a] for a in outer)):
            first = _flat(frame, lengths) * plan.tiles.count
            for index in itertools.product(*met):
                spans = tuple(s[i] for s, i in zip(plan.tiles.axes, index, strict=True))
                at = dict(zip(outer, frame, strict=True))
                yield first + _flat(index, counts), at, Tile(spans)

    def _paste(
        self,
        part: NDArray[Any],
        bounds: list[range],
        number: int,
        frame: dict[str, int],
        tile: Tile,
    ) -> None:
        """Copy what a tile has of a part."""
        stored = self._stored(number)
        from_tile: list[Any] = [0 if self.classes else slice(None)]
        into: list[Any] = []
        where = region_of(self._names, tuple(frame.items()), tile.write)
        for axis, place, bound in zip(self._names, where, bounds, strict=True):
            if axis == "C":
                from_tile[0] = slice(bound.start, bound.stop)
                into.append(slice(None))
            elif isinstance(place, int):
                into.append(place - bound.start)
            else:
                low, high = max(place.start, bound.start), min(place.stop, bound.stop)
                from_tile.append(slice(low - place.start, high - place.start))
                into.append(slice(low - bound.start, high - bound.start))
        part[tuple(into)] = stored[tuple(from_tile)]

    def _stored(self, number: int) -> Any:
        with storage_errors(
            lambda why: ImageError(
                f"A tile of the prediction of {self.plan.info.name!r} is not there: {why}. All "
                "workers have to see the same output folder; check that, and run again."
            )
        ):
            return _opened(str(self.folder / str(number)))


def _flat(index: tuple[int, ...], shape: list[int]) -> int:
    number = 0
    for i, n in zip(index, shape, strict=True):
        number = number * n + i
    return number
