"""What comes in pieces is all there in the end, and each chunk is packed once."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from support.counting_store import CountingStore
from unet_studio.images.gathered_chunks import GatheredChunks


def empty(shape, chunks, dtype=np.uint16, **options):
    store = CountingStore()
    array = zarr.create_array(
        store, shape=shape, chunks=chunks, dtype=dtype, fill_value=0,
        config={"write_empty_chunks": True}, **options,
    )  # fmt: skip
    store.written.clear()
    return array, store


def pieces(shape, edges):
    """Cut an array as tiles do: into boxes that share no pixel."""
    grid = [range(0, n, edge) for n, edge in zip(shape, edges, strict=True)]
    for corner in itertools.product(*grid):
        yield tuple(slice(c, c + e) for c, e in zip(corner, edges, strict=True))


lengths = st.integers(1, 23)


@given(
    dims=st.lists(
        st.tuples(lengths, st.integers(1, 9), st.integers(1, 12)), min_size=1, max_size=3
    ),
    order=st.randoms(use_true_random=False),
    room=st.sampled_from([0, 40, 10**6]),
    threads=st.sampled_from([1, 3]),
)
def test_all_pieces_are_there_in_any_order_and_with_any_room(dims, order, room, threads):
    shape, chunks, edges = zip(*dims, strict=True)
    array, store = empty(shape, chunks)
    values = np.arange(1, array.size + 1, dtype=np.uint16).reshape(shape)
    gathered = GatheredChunks(array, room)
    parts = list(pieces(shape, edges))
    order.shuffle(parts)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: gathered.__setitem__(part, values[part]), parts))
    gathered.flush()
    np.testing.assert_array_equal(array[...], values)
    if room == 10**6:
        assert len(store.written) == len(set(store.written)) == array.nchunks


def test_rows_of_tiles_leave_few_chunks_to_be_written_twice():
    """With room for half of a row of chunks, half of those between two rows of tiles wait."""
    array, store = empty((64, 160), (16, 16), np.uint8)
    values, gathered = np.ones(array.shape), GatheredChunks(array, 5 * 256)
    for part in pieces(array.shape, (24, 24)):
        gathered[part] = values[part]
    gathered.flush()
    assert (array[...] == 1).all()
    # 40 chunks; as they came, those between tiles would have been written two or four times.
    assert 40 < len(store.written) <= 60


def test_in_a_stack_the_next_tiles_find_their_chunks_waiting():
    """What lies below waits longest, so that is what has to give way."""
    array, store = empty((32, 48, 96), (8, 8, 8), np.uint8)
    values, gathered = np.ones(array.shape), GatheredChunks(array, 20 * 512)
    for part in pieces(array.shape, (12, 12, 12)):
        gathered[part] = values[part]
    gathered.flush()
    assert (array[...] == 1).all()
    # As they came, each chunk would be written 3.4 times on average; 1.54 times if what
    # began last gave way.
    assert len(store.written) < 1.5 * array.nchunks


def test_a_region_may_name_one_position_of_an_axis():
    array, store = empty((2, 3, 10, 10), (1, 3, 4, 4), np.float16)
    gathered = GatheredChunks(array)
    for frame, part in itertools.product(range(2), pieces((10, 10), (5, 7))):
        value = np.full((3, *array[0, 0][part].shape), frame + 1, np.float32)
        gathered[(frame, slice(None), *part)] = value
    gathered.flush()
    assert (array[0] == 1).all()
    assert (array[1] == 2).all()
    assert len(store.written) == array.nchunks


def test_what_has_no_piece_stays_empty_and_what_has_some_is_not_lost():
    array, store = empty((8, 8), (4, 4))
    gathered = GatheredChunks(array)
    gathered[slice(0, 3), slice(0, 4)] = np.ones((3, 4))
    assert not store.written
    gathered.flush()
    assert array[...].sum() == 12
    assert len(store.written) == 1


def test_chunks_that_are_stored_together_are_packed_together():
    array, store = empty((16, 16), (4, 4), shards=(8, 8))
    gathered = GatheredChunks(array)
    for part in pieces(array.shape, (4, 16)):
        gathered[part] = np.ones((4, 16))
    gathered.flush()
    assert (array[...] == 1).all()
    assert len(store.written) == 4


def test_what_the_caller_changes_afterwards_is_not_written():
    array, _ = empty((4, 4), (4, 4))
    gathered = GatheredChunks(array)
    buffer = np.ones((2, 4))
    gathered[slice(0, 2), slice(0, 4)] = buffer
    buffer[...] = 9
    gathered.flush()
    assert array[...].max() == 1


def test_a_disk_that_takes_nothing_is_told_to_the_writer(monkeypatch):
    from unet_studio.inference.writing import Writer

    array, store = empty((8, 8), (4, 4))

    async def full(*_args, **_keywords):
        raise OSError("No space left on device")

    monkeypatch.setattr(store, "set", full)
    with pytest.raises(OSError, match="No space"), Writer(array, threads=2) as writer:
        writer.put((slice(0, 2), slice(0, 8)), np.ones((2, 8)))
