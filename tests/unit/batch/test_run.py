"""A batch as other programs run it: cancelled, interrupted, run again with another recipe."""

from __future__ import annotations

import csv
import itertools
import threading
import time

import numpy as np
import pytest
import tifffile

from support.clusters import local_cluster
from unet_studio import run_batch
from unet_studio.batch.manifest import read_manifest
from unet_studio.errors import Cancelled
from unet_studio.events import CancelToken
from unet_studio.recipe import Recipe

RECIPE = Recipe(model="random:unet-tiny", precision="float32", backend="torch", device="cpu")


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        image = np.random.default_rng(number).integers(0, 255, (32, 40)).astype(np.uint8)
        tifffile.imwrite(folder / f"{number}.tif", image)
    return folder


@pytest.fixture
def endless_objects(monkeypatch):
    """Objects are looked for for a minute, unless somebody cancels; set when that begins."""
    import unet_studio.objects.run as objects

    begun = threading.Event()

    def steps(_prediction, _method=None, *, check=None):
        begun.set()
        end = time.monotonic() + 60
        while time.monotonic() < end:
            check()
            time.sleep(0.01)
        yield 1, 1
        raise AssertionError("nobody cancelled")

    monkeypatch.setattr(objects, "run_objects_steps", steps)
    return begun


def batch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")]


def files_in_table(out) -> set[str]:
    with (out / "objects.csv").open() as stream:
        return {row["file"] for row in csv.DictReader(stream)}


def test_cancel_does_not_wait_for_objects(images, tmp_path, endless_objects):
    token, before = CancelToken(), len(batch_threads())

    def cancel_soon():
        endless_objects.wait(60)
        token.cancel()

    threading.Thread(target=cancel_soon, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        run_batch(RECIPE, [images], tmp_path / "out", token=token)
    assert time.monotonic() - began < 40
    assert len(batch_threads()) == before
    assert not list((tmp_path / "out").glob("*_labels*"))


def test_ctrl_c_does_not_wait_for_objects(images, tmp_path, endless_objects):
    (images / "0.tif").write_bytes(b"no image")  # its result is told while objects are made

    def interrupt(_result, _report):
        raise KeyboardInterrupt

    token, began = CancelToken(), time.monotonic()
    (images / "0.tif").rename(images / "3.tif")
    with pytest.raises(KeyboardInterrupt):
        run_batch(RECIPE, [images], tmp_path / "out", on_result=interrupt, token=token)
    assert endless_objects.is_set()
    assert time.monotonic() - began < 40
    assert token.cancelled


def test_a_cancelled_batch_is_gone_on_with(images, tmp_path):
    token, out = CancelToken(), tmp_path / "out"
    with pytest.raises(Cancelled):
        run_batch(RECIPE, [images], out, token=token, on_result=lambda *_: token.cancel())
    done = len(list(out.glob("*_labels.tif.json")))
    assert 1 <= done < 6
    assert [line["event"] for line in read_manifest(out)][-1] == "cancelled"
    assert 1 <= len(files_in_table(out)) <= done
    report = run_batch(RECIPE, [images], out)
    assert (report.done, report.skipped) == (6 - done, done)


def test_a_cancelled_run_keeps_the_rows_of_what_it_did_not_come_to(images, tmp_path):
    out = tmp_path / "out"
    assert run_batch(RECIPE, [images], out).done == 6
    whole = (out / "objects.csv").read_bytes()
    token = CancelToken()
    with pytest.raises(Cancelled):
        run_batch(RECIPE, [images], out, token=token, on_result=lambda *_: token.cancel())
    assert (out / "objects.csv").read_bytes() == whole
    token, other = CancelToken(), RECIPE.model_copy(update={"flips": True})
    with pytest.raises(Cancelled):
        run_batch(other, [images], out, token=token, on_result=lambda *_: token.cancel())
    assert len(files_in_table(out)) < 6, "the table is of one recipe"


def test_a_cluster_is_cancelled_without_waiting_for_what_it_does(images, tmp_path, monkeypatch):
    import unet_studio.batch.cluster as cluster_of

    token, release = CancelToken(), threading.Event()

    def do_item(*_):
        token.cancel()
        release.wait(60)

    monkeypatch.setattr(cluster_of, "do_item", do_item)
    with local_cluster(1) as cluster:
        began = time.monotonic()
        try:
            with pytest.raises(Cancelled):
                run_batch(
                    RECIPE, [images], tmp_path / "out", token=token,
                    scheduler=cluster.scheduler_address,
                )  # fmt: skip
            assert time.monotonic() - began < 40
        finally:
            release.set()


def test_the_time_of_our_workers_is_not_spent_on_profiles_that_nobody_sees():
    import contextlib

    import dask
    import distributed

    from unet_studio.batch.cluster import _client

    def profiles():
        return dask.config.get("distributed.worker.profile.enabled")

    with contextlib.ExitStack() as stack:
        client = stack.enter_context(_client(distributed, stack, 1, None))
        assert list(client.run(profiles).values()) == [False]
        server = client.cluster.scheduler.http_server
        assert server.address == "127.0.0.1"
        assert server.port != 8787
    assert profiles(), "what others do with dask in this process stays as it is"


@pytest.mark.parametrize(
    ("asked", "taken"),
    [("auto", {"cuda:0", "cuda:1"}), ("cuda", {"cuda:0", "cuda:1"}), ("cpu", {"cpu"})],
)
def test_workers_share_out_the_gpus(asked, taken, images, tmp_path, monkeypatch):
    """Two workers that look at two GPUs; what they would do there is only noted."""
    from distributed import Client

    import unet_studio.batch.cluster as cluster_of
    from unet_studio.batch.job import ItemResult, Job
    from unet_studio.batch.run import plan_batch

    both, turn, devices = threading.Barrier(2, timeout=60), itertools.count(), []

    def do_item(task, job, _model, _token):
        if next(turn) < 2:
            both.wait()  # neither can do all of it
        devices.append(job.recipe.device)
        return ItemResult(task.item.name, "done")

    monkeypatch.setattr(cluster_of, "do_item", do_item)
    monkeypatch.setattr(
        "unet_studio.inference.devices.likely_devices",
        lambda: ["cuda", "cuda:0", "cuda:1", "cpu"],
    )
    job = Job(RECIPE.model_copy(update={"device": asked}))
    with local_cluster(2) as cluster:
        client = Client(cluster, set_as_default=False)
        monkeypatch.setattr(cluster_of, "_client", lambda *_: client)
        tasks = plan_batch([images], tmp_path / "out").tasks
        results = list(cluster_of.run_on_cluster(tasks, job, 2, None, CancelToken()))
    assert len(results) == len(devices) == 6
    assert set(devices) == taken


def test_the_table_is_of_one_recipe(images, tmp_path):
    """What an earlier recipe made of an image that fails now is not in the table."""
    out = tmp_path / "out"
    other = RECIPE.model_copy(update={"measure": True, "flips": True})
    assert run_batch(other, [images], out).ok
    (images / "0.tif").write_bytes(b"no image")
    (images / "1.tif").rename(tmp_path / "taken_away.tif")
    report = run_batch(RECIPE, [images], out)
    assert [r.name for r in report.failed] == ["0.tif"]
    assert (out / "0_labels.tif").is_file(), "the older result stays"
    with (out / "objects.csv").open() as stream:
        files = {row["file"] for row in csv.DictReader(stream)}
    assert files == {"2.tif", "3.tif", "4.tif", "5.tif"}


def test_a_recipe_without_measurements_leaves_no_rows_of_another(images, tmp_path):
    out = tmp_path / "out"
    assert run_batch(RECIPE, [images], out).objects > 0
    assert not list(out.glob("*.partial-*"))
    report = run_batch(RECIPE.model_copy(update={"measure": False}), [images], out)
    assert (report.done, report.objects) == (6, 0)
    assert (out / "objects.csv").read_text() == "file\n"
    assert not list(out.glob("*_objects.csv"))


def test_images_that_are_added_or_taken_away_rename_no_results(images, tmp_path):
    from PIL import Image

    out = tmp_path / "out"
    out.mkdir()
    (out / "1_labels.tif").write_text("of the user")
    assert run_batch(RECIPE, [images], out).done == 6
    for name in ("0.png", "1.png"):
        Image.fromarray(np.zeros((32, 40), np.uint8)).save(images / name)
    report = run_batch(RECIPE, [images], out)
    assert (report.done, report.skipped) == (2, 6), "only the newcomers are done"
    made = {p.name for p in out.glob("[01]_*labels.*g")} | {p.name for p in out.glob("[01]*.tif")}
    expected = {"0_labels.tif", "1_labels.tif", "1_2_labels.tif", "0_png_labels.png"}
    assert made == expected | {"1_png_labels.png"}
    (images / "0.tif").unlink()
    (images / "1.tif").unlink()
    report = run_batch(RECIPE, [images], out)
    assert (report.done, report.skipped) == (0, 6), "what is left keeps its longer name"
    assert (out / "1_labels.tif").read_text() == "of the user"
