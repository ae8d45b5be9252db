"""The arrays inside an OME-Zarr: how they are chunked and packed, and how they are filled."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unet_studio.axes import Axes
from unet_studio.errors import ImageError
from unet_studio.images.blocks import Each, whole_chunks
from unet_studio.images.volume import ArrayLike

_CHUNK = {"T": 1, "C": 1, "Z": 32, "Y": 256, "X": 256}
_FLAT_CHUNK = 1024  # edge of a chunk of images without depth
_SLAB_BYTES = 64 * 2**20


def new_level(
    group: Any, name: str, shape: tuple[int, ...], axes: Axes, dtype: np.dtype[Any]
) -> Any:
    """Make an array of an OME-Zarr, all 0.

    Parameters
    ----------
    group : zarr.Group
    name : str
        Of the array in the group.
    shape : tuple of int
    axes : Axes
        In the canonical order.
    dtype : numpy.dtype
    """
    from zarr.codecs import Crc32cCodec, ZstdCodec

    edge = _CHUNK if "Z" in axes else {**_CHUNK, "Y": _FLAT_CHUNK, "X": _FLAT_CHUNK}
    return group.create_array(
        name,
        shape=shape,
        chunks=tuple(min(n, edge[a]) for n, a in zip(shape, axes.names, strict=True)),
        dtype=np.dtype(dtype).newbyteorder("="),
        compressors=(ZstdCodec(level=3), Crc32cCodec()),
        dimension_names=tuple(axes.names.lower()),
        fill_value=0,
        # Background too: else a lost chunk could not be told from an empty one.
        config={"write_empty_chunks": True},
    )


def write_level(
    stored: Any,
    source: ArrayLike,
    steps: list[int],
    check: Callable[[], None] | None,
    each: Each,
) -> None:
    """Fill an array, keeping every ``steps``-th value of ``source`` along each axis.

    Parameters
    ----------
    stored : zarr.Array
    source : numpy or Zarr array
    steps : list of int
    check : callable, optional
        Called before each slab; may raise to stop.
    each : callable
        Writes the slabs, which share no chunk.
    """
    itemsize = stored.dtype.itemsize * int(np.prod(steps))
    slabs = _slabs(stored.shape, stored.chunks, itemsize)
    for _ in each(partial(_write_slab, source, stored, steps), _checked(slabs, check)):
        pass


def take_level(group: Any, name: str, level: Any) -> bool:
    """Move an array of :func:`new_level` into a group on the same disk, if that can be done.

    Returns
    -------
    bool
        False, and nothing is changed, if a chunk was never written, or the system does not
        let go of the array.
    """
    folder = Path(level.store.root) / level.path
    # Zarr's own count compares all names with all others.
    written = sum(len(files) for _, _, files in os.walk(folder / "c"))
    if written != level.nchunks:
        return False
    try:
        folder.rename(Path(group.store.root) / name)
    except OSError:  # such as on Windows, while a virus scanner reads a chunk
        return False
    return True


def _checked(
    slabs: Iterator[tuple[slice, ...]], check: Callable[[], None] | None
) -> Iterator[tuple[slice, ...]]:
    for slab in slabs:
        if check is not None:
            check()
        yield slab


def _write_slab(
    source: ArrayLike, stored: Any, steps: list[int], region: tuple[slice, ...]
) -> None:
    read = tuple(slice(r.start * s, r.stop * s) for r, s in zip(region, steps, strict=True))
    values = np.asarray(source[read])[tuple(slice(None, None, s) for s in steps)]
    stored[region] = values.astype(stored.dtype, copy=False)
    # On another machine this may end after a cancel. Zarr made the removed folder anew then,
    # without the group's own file.
    folder = Path(stored.store.root)
    if not (folder / "zarr.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        raise ImageError(
            f"{folder} was removed while it was being written. Leave it where it is, and run "
            "again."
        )


def _slabs(
    shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int
) -> Iterator[tuple[slice, ...]]:
    """Cut a store into blocks of whole chunks that fit into memory, in its own order."""
    block = whole_chunks(shape, chunks, _SLAB_BYTES // itemsize)
    grid = [range(0, n, b) for n, b in zip(shape, block, strict=True)]
    for start in itertools.product(*grid):
        yield tuple(slice(s, min(s + b, n)) for s, b, n in zip(start, block, shape, strict=True))
