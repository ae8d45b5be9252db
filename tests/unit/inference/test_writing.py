"""Writing runs beside the network, in order, and its failures are not lost."""

import asyncio
import threading
import time

import numpy as np
import pytest
import zarr

from support.counting_store import CountingStore
from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken, TileDone, drain
from unet_studio.images.volume import as_volume
from unet_studio.inference.executor import Executor
from unet_studio.inference.plan import resolve
from unet_studio.inference.predictor import output_shape, predict_steps
from unet_studio.inference.writing import Writer
from unet_studio.models.presets import new_model
from unet_studio.recipe import Recipe, Tiling

IMAGE = np.random.default_rng(0).random((400, 400)).astype(np.float32)
RECIPE = Recipe(
    model="-", device="cpu", backend="torch", precision="float32", tiling=Tiling(tile=208, halo=16)
)


class Disk:
    """An array behind a slow or failing disk."""

    def __init__(self, shape, *, seconds=0.0, fails_at=None):
        self.array, self.seconds, self.fails_at = np.zeros(shape, np.float16), seconds, fails_at
        self.writes, self.threads = [], set()

    def __setitem__(self, region, value):
        self.threads.add(threading.current_thread())
        time.sleep(self.seconds)
        if len(self.writes) == self.fails_at:
            raise OSError("No space left on device")
        self.writes.append(time.perf_counter())
        self.array[region] = value


@pytest.fixture(scope="module")
def model():
    return new_model("unet-tiny")


def run(model, disk_options=None, on_event=lambda _: None, **options):
    volume = as_volume(IMAGE, "YX")
    plan = resolve(RECIPE, model.card, volume.info)
    disk = Disk(output_shape(plan), **(disk_options or {}))
    steps = predict_steps(volume, model, plan, output=disk, **options)
    try:
        drain(steps, on_event)
        return disk, plan
    except BaseException as error:
        return disk, error


def test_values_are_written_in_the_order_given():
    output = np.zeros(3)
    with Writer(output) as writer:
        for value in range(50):
            writer.put((slice(0, 2),), value)
    assert output.tolist() == [49, 49, 0]


def test_several_threads_write_into_memory_but_one_into_an_array_of_unknown_make():
    running, most = set(), []

    class Slow(np.ndarray):
        def __setitem__(self, region, value):
            running.add(threading.current_thread())
            most.append(len(running))
            time.sleep(0.01)
            super().__setitem__(region, value)
            running.discard(threading.current_thread())

    memory = np.zeros(40).view(Slow)
    with Writer(memory, threads=3) as writer:
        for n in range(40):
            writer.put((slice(n, n + 1),), n)
    assert np.asarray(memory).tolist() == list(range(40))
    assert 1 < max(most) <= 3
    disk = Disk((3,), seconds=0.001)
    with Writer(disk, threads=3) as writer:
        for n in range(9):
            writer.put((n % 3,), n)
    assert len(disk.threads) == 1
    assert disk.array.tolist() == [6, 7, 8]


def test_the_network_does_not_wait_for_the_disk(model, monkeypatch):
    """A disk that ends each write only once the network has gone on to the next tile."""
    expected, plan = run(model)
    begun = []
    real = Executor.run

    def counted(self, blocks, tiles):
        begun.extend(tiles)
        return real(self, blocks, tiles)

    class PatientDisk(Disk):
        def __setitem__(self, region, value):
            enough = min(len(self.writes) + 2, plan.tile_count)
            until = time.perf_counter() + 60
            while len(begun) < enough:
                assert time.perf_counter() < until, "the network waits for the disk"
                time.sleep(0.001)
            super().__setitem__(region, value)

    monkeypatch.setattr(Executor, "run", counted)
    disk = PatientDisk(output_shape(plan))
    for _ in predict_steps(as_volume(IMAGE, "YX"), model, plan, output=disk):
        pass
    assert disk.threads.isdisjoint({threading.main_thread()})
    assert len(disk.writes) == plan.tile_count >= 9
    np.testing.assert_array_equal(disk.array, expected.array)


def test_each_chunk_of_a_zarr_is_packed_once_though_tiles_end_elsewhere(model):
    expected, plan = run(model)
    store = CountingStore()
    output = zarr.create_array(
        store, shape=output_shape(plan), chunks=(3, 64, 64), dtype=np.float16, fill_value=0
    )
    store.written.clear()
    drain(predict_steps(as_volume(IMAGE, "YX"), model, plan, output=output), lambda _: None)
    np.testing.assert_array_equal(output[...], expected.array)
    assert len(store.written) == output.nchunks == 49


@pytest.mark.parametrize("on_disk", [True, False])
def test_beside_a_result_on_the_disk_freed_memory_is_given_back(model, monkeypatch, on_disk):
    from unet_studio.inference import freed_memory

    given = []
    monkeypatch.setattr(freed_memory, "give_back_freed_memory", lambda: given.append(1))
    volume = as_volume(IMAGE, "YX")
    plan = resolve(RECIPE, model.card, volume.info)
    values = np.prod(output_shape(plan))
    for enough, times in ((1, plan.tile_count), (values, 1), (values + 1, 0)):
        monkeypatch.setattr(freed_memory, "_VALUES", enough)
        given.clear()
        output = Disk(output_shape(plan)) if on_disk else None
        drain(predict_steps(volume, model, plan, output=output), lambda _: None)
        assert len(given) == (times if on_disk else 0)


def test_several_threads_write_into_a_zarr():
    """The first to write waits for the second."""
    meeting = threading.Barrier(2, timeout=60)

    class Meeting(CountingStore):
        async def set(self, key, value, byte_range=None):
            if "c/" in key:
                await asyncio.to_thread(meeting.wait)
            await super().set(key, value, byte_range)

    output = zarr.create_array(Meeting(), shape=(4, 8), chunks=(2, 8), dtype=np.uint8)
    with Writer(output, threads=2) as writer:
        for row in (0, 2):
            writer.put((slice(row, row + 2), slice(0, 8)), np.ones((2, 8), np.uint8))
    assert (output[...] == 1).all()


def test_half_a_chunk_of_a_run_that_ends_well_is_written():
    output = zarr.create_array(CountingStore(), shape=(4, 8), chunks=(4, 8), dtype=np.uint8)
    with Writer(output) as writer:
        writer.put((slice(0, 2), slice(0, 8)), np.ones((2, 8), np.uint8))
    assert output[...].sum() == 16


def test_half_a_chunk_of_a_failed_run_is_not_written():
    store = CountingStore()
    output = zarr.create_array(store, shape=(4, 8), chunks=(4, 8), dtype=np.uint8)
    store.written.clear()
    with pytest.raises(Cancelled), Writer(output) as writer:
        writer.put((slice(0, 2), slice(0, 8)), np.ones((2, 8), np.uint8))
        writer.wait()
        raise Cancelled
    assert store.written == []


def test_a_full_disk_ends_the_run_and_nothing_is_written_after_it(model):
    disk, error = run(model, {"fails_at": 3})
    assert isinstance(error, OSError)
    assert len(disk.writes) == 3
    assert not [t for t in threading.enumerate() if t.name.startswith("unet-studio")]


def test_a_failure_of_the_last_value_is_not_lost():
    disk = Disk((3,), fails_at=0)
    with pytest.raises(OSError, match="No space"), Writer(disk) as writer:
        writer.put((0,), 1)


def test_nothing_is_written_after_a_cancelled_run(model):
    token = CancelToken()
    disk, error = run(
        model,
        {"seconds": 0.05},
        on_event=lambda e: token.cancel() if isinstance(e, TileDone) and e.done == 3 else None,
        token=token,
    )
    assert isinstance(error, Cancelled)
    written = len(disk.writes)
    time.sleep(0.2)
    assert len(disk.writes) == written <= 4
    assert not [t for t in threading.enumerate() if t.name.startswith("unet-studio")]
