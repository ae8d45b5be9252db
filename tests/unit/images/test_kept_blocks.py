"""Blocks that stay in memory: right, read once, also by several threads, and not for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import dask.array as da
import numpy as np
import pytest
import zarr

from unet_studio.images.kept_blocks import KeptBlocks, keep_chunks
from unet_studio.images.volume import as_volume


class Counted:
    """An array in chunks that counts how often each is read, and fails where it is told to."""

    chunks = (16, 16)
    concurrent = True

    def __init__(self, shape=(100, 90)):
        self.values = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
        self.shape, self.dtype = shape, self.values.dtype
        self.times = np.zeros([-(-n // 16) for n in shape], int)
        self.reads, self.broken, self.lock = 0, None, threading.Lock()

    def __getitem__(self, key):
        rows, columns = (slice(k.start // 16, -(-k.stop // 16)) for k in key)
        with self.lock:
            self.times[rows, columns] += 1
            self.reads += 1
        if self.broken is not None and self.broken.wait(10):
            self.broken = None
            raise OSError("the disk is gone")
        return self.values[key]


def test_overlapping_regions_read_each_chunk_once_and_neighbours_in_one_go():
    source = Counted()
    kept = KeptBlocks(source)
    for y in range(0, 100, 32):
        for x in range(0, 90, 32):
            key = slice(max(0, y - 8), min(100, y + 40)), slice(max(0, x - 8), min(90, x + 40))
            assert np.array_equal(kept[key], source.values[key])
    assert (source.times == 1).all()
    assert source.reads < source.times.size / 2


def test_threads_wait_for_each_other_instead_of_reading_twice():
    source = Counted((400, 400))
    kept = KeptBlocks(source)
    rng = np.random.default_rng(0)
    keys = [
        tuple(slice(int(a), int(a) + int(n)) for a, n in zip(start, size, strict=True))
        for start, size in zip(
            rng.integers(0, 300, (200, 2)), rng.integers(1, 100, (200, 2)), strict=True
        )
    ]
    with ThreadPoolExecutor(8) as pool:
        for key, found in zip(keys, pool.map(kept.__getitem__, keys), strict=True):
            assert np.array_equal(found, source.values[key])
    assert source.times.max() == 1


def test_threads_never_wait_for_what_nobody_reads():
    """With room for few blocks, one may be dropped and wanted again while others are read."""
    source = Counted((160, 160))
    kept = KeptBlocks(source, most=2 * 16 * 16 * 4)
    rng = np.random.default_rng(1)
    starts = rng.integers(0, 60, (2000, 2)).tolist()
    keys = [(slice(y, y + 90), slice(x, x + 90)) for y, x in starts]
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(kept.__getitem__, key) for key in keys]
        for key, future in zip(keys, running, strict=True):
            assert np.array_equal(future.result(60), source.values[key])
    assert kept._coming == {}


def test_what_one_thread_could_not_read_another_reads():
    source = Counted()
    source.broken = threading.Event()
    kept = KeptBlocks(source)
    whole = (slice(0, 100), slice(0, 90))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(kept.__getitem__, whole)
        while not source.reads:
            pass
        second = pool.submit(kept.__getitem__, whole)
        source.broken.set()
        with pytest.raises(OSError, match="the disk is gone"):
            first.result(10)
        assert np.array_equal(second.result(10), source.values)


def test_no_more_is_kept_than_is_allowed_and_the_last_ones_stay():
    source = Counted()
    kept = KeptBlocks(source, most=3 * 16 * 16 * 4)
    for x in (0, 16, 32, 48):
        kept[slice(0, 16), slice(x, x + 16)]
    kept[slice(0, 16), slice(16, 64)]
    assert source.times[0, :4].tolist() == [1, 1, 1, 1]
    kept[slice(0, 16), slice(0, 16)]
    assert source.times[0, 0] == 2


@pytest.mark.parametrize("kind", ["numpy", "large chunks", "dask", "zarr"])
def test_keep_chunks_takes_what_is_in_small_chunks(kind):
    values = np.arange(128 * 128, dtype=np.uint8).reshape(128, 128)
    array = {
        "numpy": lambda: values,
        "large chunks": lambda: da.from_array(values, chunks=128),
        "dask": lambda: da.from_array(values, chunks=32),
        "zarr": lambda: zarr.array(values, chunks=(32, 32)),
    }[kind]()
    volume = as_volume(array, "YX")
    found = keep_chunks(volume, 8 * 32 * 32)
    assert isinstance(found.array, KeptBlocks) == (kind in ("dask", "zarr"))
    assert found.concurrent == volume.concurrent
    region = {"Y": slice(20, 100), "X": slice(3, 128)}
    assert np.array_equal(found.read(region), volume.read(region))
