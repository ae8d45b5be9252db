"""One large image on many workers: the labels are those of one process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import distributed
import numpy as np
import pytest
import tifffile

from support.clusters import local_cluster
from unet_studio import read_image, run_batch, segment_to_zarr
from unet_studio.batch.workers import TaskToken
from unet_studio.events import Cancelled, CancelToken
from unet_studio.images.zarr_marker import is_complete
from unet_studio.inference import openvino, spread
from unet_studio.inference.spread import TilePainter
from unet_studio.recipe import Recipe

OPTIONS = {"device": "cpu", "precision": "float32", "tiling": {"tile": 256}}


@pytest.fixture(scope="module")
def scheduler():
    """Two workers in threads of this process, which see what a test has replaced."""
    with local_cluster(2) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def written(tmp_path, field):
    """A maker of files: ``written(shape, axes)``."""

    def write(shape, axes) -> Path:
        path = tmp_path / "cells.tif"
        tifffile.imwrite(path, field(shape), metadata={"axes": axes}, photometric="minisblack")
        return path

    return write


def labels_in(out: Path) -> np.ndarray:
    (store,) = out.glob("*_labels.ome.zarr")
    assert is_complete(store)
    return read_image(store).read().squeeze()


def recipe_of(axes, **more):
    return Recipe(model="nuclei", axes=axes, **{**OPTIONS, **more})


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (430, 330)), ("ZYX", (3, 200, 160)), ("TYX", (2, 200, 160))]
)
def test_labels_and_table_are_those_of_one_process(
    tmp_path, small_blocks, scheduler, axes, shape, written
):
    image = written(shape, axes)
    recipe = recipe_of(axes)
    expected = segment_to_zarr(image, tmp_path / "alone.ome.zarr", axes=axes, **OPTIONS)
    assert expected.object_count > 10
    told = []
    out = tmp_path / "out"
    report = run_batch(
        recipe, [image], out, through_disk=True, scheduler=scheduler, split_above=1000,
        on_event=told.append,
    )  # fmt: skip
    assert report.ok, report.failed
    assert told, "it was done by blocks, which says what goes on"
    np.testing.assert_array_equal(labels_in(out), np.asarray(expected.labels[:]).squeeze())
    assert report.objects == expected.object_count
    assert not [p for p in out.iterdir() if ".partial" in p.name or "scratch" in p.name]
    again = run_batch(
        recipe, [image], out, through_disk=True, scheduler=scheduler, split_above=1000
    )
    assert (again.done, again.skipped) == (0, 1)


def test_an_error_in_one_block_fails_the_image_alone(
    tmp_path, small_blocks, scheduler, monkeypatch, written
):
    image = written((430, 330), "YX")
    real, calls = TilePainter.paint, []

    def fail_once(self, number, folder):
        calls.append(number)
        if number == 1:
            raise OSError(28, "No space left on device")
        return real(self, number, folder)

    monkeypatch.setattr(TilePainter, "paint", fail_once)
    out = tmp_path / "out"
    options = {"through_disk": True, "scheduler": scheduler, "split_above": 1000}
    report = run_batch(recipe_of("YX"), [image], out, **options)
    assert calls
    (failed,) = report.failed
    assert failed.name == "cells.tif"
    assert "space" in failed.reason.lower()
    assert not list(out.glob("*_labels*"))
    monkeypatch.undo()
    assert run_batch(recipe_of("YX"), [image], out, **options).done == 1


def test_cancel_leaves_nothing_and_the_next_run_does_it(
    tmp_path, small_blocks, scheduler, written
):
    image = written((430, 330), "YX")
    out = tmp_path / "out"
    token = CancelToken()
    options = {"through_disk": True, "scheduler": scheduler, "split_above": 1000}
    with pytest.raises(Cancelled):
        run_batch(
            recipe_of("YX"),
            [image],
            out,
            token=token,
            on_event=lambda _: token.cancel(),
            **options,
        )
    assert not list(out.glob("*_labels*"))
    assert run_batch(recipe_of("YX"), [image], out, **options).done == 1


def test_a_tile_that_ends_after_a_cancel_brings_nothing_back(
    tmp_path, small_blocks, scheduler, monkeypatch, written
):
    """Nobody waits for what workers are at, and the folder it was for is gone."""
    image = written((430, 330), "YX")
    out, token = tmp_path / "out", CancelToken()
    begun, go, ended = threading.Event(), threading.Event(), threading.Semaphore(0)
    real, places = spread.write_tile, []

    def write_late(place, value):
        places.append(place)
        begun.set()
        assert go.wait(60)
        try:
            real(place, value)
        finally:
            ended.release()

    monkeypatch.setattr(spread, "write_tile", write_late)
    cancel = threading.Thread(target=lambda: (begun.wait(60), token.cancel()))
    cancel.start()
    with pytest.raises(Cancelled):
        run_batch(
            recipe_of("YX"), [image], out, through_disk=True, scheduler=scheduler,
            split_above=1000, token=token,
        )  # fmt: skip
    cancel.join()
    assert not places[0].parent.exists()
    go.set()
    assert ended.acquire(timeout=60)
    assert not [p for p in out.iterdir() if ".partial" in p.name]


def test_a_worker_that_is_lost_changes_nothing(tmp_path, small_blocks, monkeypatch, written):
    """The scheduler hands its tiles to another one."""
    image = written((430, 330), "YX")
    expected = segment_to_zarr(image, tmp_path / "alone.ome.zarr", axes="YX", **OPTIONS)
    out, lost = tmp_path / "out", []
    real, first = spread.write_tile, threading.Lock()
    with local_cluster(2) as cluster:

        def lose_one(place, value):
            """The first to have a tile is gone before it is written."""
            if first.acquire(blocking=False):
                lost.append(distributed.get_worker().address)
                cluster.sync(cluster.scheduler.remove_worker, lost[0], stimulus_id="lost")
                return
            real(place, value)

        monkeypatch.setattr(spread, "write_tile", lose_one)
        report = run_batch(
            recipe_of("YX"), [image], out, through_disk=True,
            scheduler=cluster.scheduler_address, split_above=1000,
        )  # fmt: skip
    assert lost
    assert report.ok, report.failed
    np.testing.assert_array_equal(labels_in(out), np.asarray(expected.labels[:]).squeeze())


@pytest.mark.slow
def test_workers_that_die_change_nothing(tmp_path, written):
    """Processes are killed for real while they predict; others take their tiles over."""
    image = written((700, 700), "YX")
    recipe = recipe_of("YX")
    expected = segment_to_zarr(image, tmp_path / "alone.ome.zarr", axes="YX", **OPTIONS)
    out = tmp_path / "out"
    with local_cluster(2, processes=True) as cluster:
        killed = threading.Event()

        def kill_one(event):
            if getattr(event, "done", 0) >= 2 and not killed.is_set():
                killed.set()
                next(iter(cluster.workers.values())).process.process.kill()

        report = run_batch(
            recipe, [image], out, through_disk=True, scheduler=cluster.scheduler_address,
            split_above=1000, on_event=kill_one,
        )  # fmt: skip
    assert killed.is_set()
    assert report.ok, report.failed
    np.testing.assert_array_equal(labels_in(out), np.asarray(expected.labels[:]).squeeze())


@pytest.mark.parametrize("split_above", [1000, 0])
def test_cancel_ends_what_a_worker_is_at(
    tmp_path, small_blocks, scheduler, monkeypatch, written, split_above
):
    """Turning a network into integers takes many seconds, and nobody wants them any more."""
    image = written((430, 330), "YX")
    token, finished, ended = CancelToken(), threading.Event(), threading.Event()

    def quantise(graph, name, channels, strides, check):
        token.cancel()
        try:
            for _ in range(1200):  # a minute, if nobody stops it
                check()
                time.sleep(0.05)
            finished.set()
        finally:
            ended.set()
        return graph

    monkeypatch.setattr(openvino, "eight_bits", quantise)
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    out = tmp_path / "out"
    recipe = Recipe(model="nuclei", axes="YX", device="cpu", precision="int8")
    with pytest.raises(Cancelled):
        run_batch(
            recipe, [image], out, through_disk=True, scheduler=scheduler,
            split_above=split_above, token=token,
        )  # fmt: skip
    assert ended.wait(60)
    assert not finished.is_set()
    assert not list(out.glob("*_labels*"))
    # The worker is free again.
    options = {"through_disk": True, "scheduler": scheduler, "split_above": split_above}
    assert run_batch(recipe_of("YX"), [image], out, **options).done == 1


def test_a_token_goes_by_the_task_of_its_thread(scheduler):
    with distributed.Client(scheduler, set_as_default=False) as client:
        tokens = [client.submit(_look, pure=False).result() for _ in range(2)]
        assert tokens == [(False, False, True)] * 2
    assert not TaskToken().cancelled, "at no task"


def _look():
    """Return whether a task is taken for one that nobody wants, before it is that and after."""
    token, elsewhere = TaskToken(), []
    thread = threading.Thread(target=lambda: elsewhere.append(token.cancelled))
    thread.start()
    thread.join()
    before = token.cancelled
    token.cancel()
    return before, elsewhere[0], token.cancelled
