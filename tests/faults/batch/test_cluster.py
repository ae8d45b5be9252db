"""A cluster that goes away, or is not there yet; workers that are killed for real."""

from __future__ import annotations

import csv
import io
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import dask
import distributed
import numpy as np
import pytest
import tifffile
from distributed.chaos import KillWorker
from distributed.diagnostics.plugin import SchedulerPlugin

from support.clusters import local_cluster
from unet_studio import read_image, run_batch, save_recipe
from unet_studio.batch.cluster import NO_WORKERS
from unet_studio.batch.job import ItemResult
from unet_studio.batch.manifest import read_manifest
from unet_studio.batch.whole import Whole
from unet_studio.events import CancelToken, Warned
from unet_studio.recipe import Recipe

RECIPE = Recipe(model="random:unet-tiny", precision="float32", backend="torch", device="cpu")
# A scheduler in a process of its own, and workers in threads of it: both die together.
SCHEDULER = """
import sys, time
from distributed import LocalCluster
if __name__ == "__main__":
    cluster = LocalCluster(
        n_workers=int(sys.argv[1]), threads_per_worker=1, processes=False, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", protocol="tcp", silence_logs=50,
    )
    print(cluster.scheduler_address, flush=True)
    if sys.argv[1] == "0":
        sys.stdin.readline()
        cluster.scale(1)
    time.sleep(600)
"""


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(6):
        image = chance.integers(0, 255, (96, 96)).astype(np.uint8)
        tifffile.imwrite(folder / f"{number}.tif", image)
    return folder


@pytest.fixture
def scheduler(tmp_path):
    """A maker of schedulers: ``scheduler(workers)`` returns its process and address."""
    script, started = tmp_path / "scheduler.py", []
    script.write_text(SCHEDULER)

    def start(workers: int) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, str(script), str(workers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        started.append(process)
        return process, process.stdout.readline().strip()

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_scheduler_that_is_lost_ends_the_batch_and_keeps_what_is_done(
    images, scheduler, tmp_path
):
    process, address = scheduler(1)
    out, seen = tmp_path / "out", []

    def lose(result, report):
        seen.append(result)
        if len(seen) == 2:
            process.kill()
            process.wait()

    report = run_batch(RECIPE, [images], out, scheduler=address, on_result=lose)
    assert 2 <= report.done < 6
    assert not report.failed
    (problem,) = report.problems
    assert re.match(r"The dask scheduler was lost\. .*run the batch again", problem)
    assert f"{6 - report.done} of 6 images are left" in problem
    assert not report.ok
    with (out / "objects.csv").open(newline="") as stream:
        assert len(list(csv.reader(stream))) == report.objects + 1
    last = list(read_manifest(out))[-1]
    assert (last["event"], last["done"]) == ("ended", report.done)
    again = run_batch(RECIPE, [images], out)
    assert again.ok
    assert again.skipped >= report.done
    assert again.done + again.skipped == 6


def test_a_scheduler_without_workers_is_told_of_and_waited_for(images, scheduler, tmp_path):
    process, address = scheduler(0)
    told = []

    def on_event(event):
        if event == Warned(NO_WORKERS):
            told.append(time.monotonic())
            process.stdin.write("\n")
            process.stdin.flush()

    began = time.monotonic()
    report = run_batch(RECIPE, [images], tmp_path / "out", scheduler=address, on_event=on_event)
    assert report.ok
    assert report.done == 6
    assert len(told) == 1
    assert told[0] - began >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(("deaths", "state"), [(2, "done"), (3, "failed")])
def test_an_image_whose_worker_was_killed_is_tried_again(tmp_path, deaths, state):
    """A process is killed for real, each time beyond what dask itself puts up with."""
    item = SimpleNamespace(name="a.tif", path=tmp_path / "a.tif", series=0)

    def work(task):
        died = len(list(tmp_path.glob("died*")))
        if died < deaths:
            (tmp_path / f"died{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return ItemResult(task.item.name, "done")

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(1, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        (result,) = Whole(client, work, CancelToken()).results([SimpleNamespace(item=item)])
    assert len(list(tmp_path.glob("died*"))) == deaths
    assert result.state == state
    assert state == "done" or "the workers that did it died (KilledWorker)" in result.reason


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_result_that_died_with_its_worker_before_it_was_fetched_is_made_again(tmp_path):
    """What is done lies with its worker until it is asked for; that is no lost scheduler."""
    names = ["a.tif", "b.tif", "c.tif"]
    tasks = [SimpleNamespace(item=SimpleNamespace(name=n, path=tmp_path / n)) for n in names]

    def work(task):
        (tmp_path / f"{task.item.name}.{os.getpid()}").touch()
        return ItemResult(task.item.name, "done")

    with (
        local_cluster(1, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        whole = Whole(client, work, CancelToken())
        results = whole.results(tasks)
        first = next(results)
        wait_for(lambda: len(list(tmp_path.glob("*.tif.*"))) == 3)
        futures = list(whole._running)
        wait_for(lambda: all(f.status == "finished" for f in futures))
        os.kill(int(next(tmp_path.glob("*.tif.*")).suffix[1:]), signal.SIGKILL)
        wait_for(lambda: all(f.status != "finished" for f in futures))
        others = list(results)
    assert {r.name for r in (first, *others)} == set(names)
    assert {r.state for r in (first, *others)} == {"done"}


def wait_for(condition, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def test_what_dask_logs_of_a_cluster_of_ours_is_not_shown(images, tmp_path):
    """As when Ctrl+C comes while a result is fetched, which is seldom."""
    heard, log = io.StringIO(), logging.getLogger("distributed")
    handler = logging.StreamHandler(heard)
    log.addHandler(handler)

    def complain(result, report):
        logging.getLogger("distributed.scheduler").error("Couldn't gather keys: {}")

    try:
        report = run_batch(RECIPE, [images], tmp_path / "out", workers=1, on_result=complain)
        assert report.done == 6
        assert heard.getvalue() == ""
        complain(None, None)  # afterwards all is as it was
        assert "gather" in heard.getvalue()
    finally:
        log.removeHandler(handler)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_ctrl_c_in_a_terminal_says_one_line_whatever_workers_are_at(images, tmp_path):
    """A terminal interrupts all processes of a command, not the first alone."""
    recipe, out = save_recipe(RECIPE, tmp_path / "recipe.toml"), tmp_path / "out"
    for number in range(6, 300):
        shutil.copy(images / "0.tif", images / f"{number}.tif")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "unet_studio.cli.app", "batch", str(recipe), str(images),
            "-o", str(out), "--workers", "2",
        ],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        limit = time.monotonic() + 90
        while not list(out.glob("*.json")) and time.monotonic() < limit:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, err
    assert err.strip() == "error: Interrupted. What was finished is kept."


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["segfault", "sys.exit"])
@pytest.mark.parametrize("split_above", [0, 1000], ids=["whole", "blocks"])
def test_L11_workers_that_die_at_random_change_nothing(images, tmp_path, mode, split_above):
    """Workers live for 12 s in the mean.

    Not for 4 s: a worker needs longer than that to import torch and load the model, so that
    hardly any would come to its work. After sys.exit dask's nanny starts no other worker, so
    that the cluster has to (``adapt``).
    """
    large, deaths = {"through_disk": bool(split_above)}, []

    class Deaths(SchedulerPlugin):
        def remove_worker(self, scheduler, worker, **_):
            deaths.append(worker)

    assert run_batch(RECIPE, [images], tmp_path / "clean", **large).done == 6
    with (
        local_cluster(2, processes=True) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        cluster.scheduler.add_plugin(Deaths())
        cluster.adapt(minimum=2, maximum=2, interval="500ms")
        client.register_plugin(KillWorker(delay="12 s", mode=mode))
        while len(deaths) < 2:  # chance may leave a short batch in peace
            report = run_batch(
                RECIPE, [images], tmp_path / "out", scheduler=cluster.scheduler_address,
                split_above=split_above, redo=True, **large,
            )  # fmt: skip
            assert report.ok, report.failed
    assert labels_in(tmp_path / "out") == labels_in(tmp_path / "clean")


def labels_in(folder):
    """The labels of all images, by name."""
    stores = [*folder.glob("*_labels.tif"), *folder.glob("*_labels.ome.zarr")]
    assert len(stores) == 6
    return {s.name: read_image(s).read().tobytes() for s in stores}
